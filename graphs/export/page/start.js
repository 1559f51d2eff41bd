// The page begins, and is made anew after each question.

function refresh() {
  rest();
  resize();
  showSifted();
  showPanel();
  writeAddress();
}

// While a slider moves, only what it changes is made anew, and the address waits until it rests: browsers count its changes.
function slide(name, at) {
  const before = nodeShown[state.node];
  state[name] = toValue(name, at);
  move(name);
  showSifted();
  paintEdges();
  if (nodeShown[state.node] !== before) showPanel();
}

function showSifted() {
  sift();
  highlight();
  showHulls();
  // The diagram waits too: it is made anew from all edges.
  clearTimeout(soon);
  if (diagramFor.endsWith(groupsNow())) soon = setTimeout(showGroups, 150);
  else showGroups();
}

prepare();
readAddress();
listenToTools();
listenToKeys();
listenToScrolls();
listenToPlots();
showFacts();
showAssay();
refresh();
if (state.node !== null) reveal(state.node);
