// Elements are made here alone. Every text goes in as a text node, never as markup.

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null)); // a string becomes a text node
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// New content in place of old. What had the focus keeps it where it is still there, else the whole has it: keys and
// readers of the screen go on from where they were.
function renew(element, ...children) {
  const held = document.activeElement;
  const controls = () => [...element.querySelectorAll("button, input, select, summary, a")];
  const called = (each) => [each.tagName, each.id, each.getAttribute("aria-label") ?? each.textContent].join(" ");
  const alike = (name) => controls().filter((each) => called(each) === name);
  const had = element !== held && element.contains(held) ? alike(called(held)).indexOf(held) : null;
  element.replaceChildren(...children);
  if (had === null) return;
  const again = alike(called(held))[had];
  (again && !again.disabled ? again : element).focus({ preventScroll: true });
}
