// The tools above the picture are listened to.

function listenToTools() {
  const find = document.getElementById("find");
  find.addEventListener("input", () => {
    state.find = find.value;
    state.node = state.edge = null;
    refresh();
    panel.scrollTop = 0;
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !matches()?.length) return;
    find.blur(); // so that the arrow keys walk on from here
    pin(matches().find((row) => nodeMark[row]) ?? matches()[0]);
  });
  for (const name of SLIDERS) {
    document.getElementById(name).addEventListener("input", (event) => slide(name, Number(event.target.value)));
    document.getElementById(name).addEventListener("change", writeAddress);
  }
  const zoom = (factor) => () => {
    state.zoom = rounded(Math.min(6, Math.max(0.2, scale() * factor)));
    refresh();
  };
  document.getElementById("smaller").addEventListener("click", zoom(1 / 1.25));
  document.getElementById("larger").addEventListener("click", zoom(1.25));
  document.getElementById("fit").addEventListener("click", () => {
    state.zoom = rounded(svg.parentElement.clientWidth / natural);
    refresh();
  });
  document.getElementById("side").addEventListener("click", () => {
    state.side = !isBeside();
    refresh();
  });
  WIDE.addEventListener("change", resize);
  window.addEventListener("hashchange", () => {
    readAddress();
    refresh();
  });
  document.getElementById("dense-tool").hidden = !densities.length;
  document.getElementById("save-svg").addEventListener("click", () => save(new Blob([shownSvg()], { type: "image/svg+xml" }), "svg"));
  document.getElementById("save-png").addEventListener("click", savePng);
  document.getElementById("save-json").addEventListener("click", () => save(new Blob([JSON.stringify(shownGraph())], { type: "application/json" }), "json"));
  document.getElementById("other").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    state.beside = ""; // a file's name does not lead to it
    document.querySelectorAll("#stored").forEach((box) => (box.value = ""));
    showBeside(await file.text(), file.name);
    writeAddress();
  });
  const above = [document.querySelector("header"), document.getElementById("tools")];
  const watch = new ResizeObserver(() => {
    const root = document.documentElement.style;
    root.setProperty("--under", `${above[1].offsetHeight}px`);
    // The picture begins where a dot of the screen does.
    const high = above.reduce((total, each) => total + each.getBoundingClientRect().height, 0);
    root.setProperty("--rest", `${Math.ceil(high) - high}px`);
  });
  above.forEach((each) => watch.observe(each));
}
