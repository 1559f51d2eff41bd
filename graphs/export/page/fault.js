"use strict";
// What goes wrong in a page is said on it.

window.addEventListener("error", (event) => {
  const fault = document.getElementById("fault");
  fault.hidden = false;
  fault.textContent = `A fault of this page, not of what it shows: ${event.message} (line ${event.lineno} of its script).`;
});
