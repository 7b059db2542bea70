"use strict";
(() => {
  for (const one of document.querySelectorAll(".scripted")) one.hidden = false;

  // rows with all the words that are asked for
  const filter = document.getElementById("filter"), found = document.getElementById("found");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.querySelectorAll("tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    found.textContent = words.length ? shown + " rows" : "";
  });

  const plot = document.getElementById("plot");
  if (!plot) return;
  const left = Number(plot.dataset.left), width = Number(plot.dataset.width), first = Number(plot.dataset.first), last = Number(plot.dataset.last);
  const zone = Number(plot.dataset.zone); // of the host that made the page, in ms
  const frame = document.getElementById("frame"), range = document.getElementById("range");
  let from = 0, to = 1;

  const moment = (part) => {
    const at = new Date(first + part * (last - first) + zone);
    return at.toISOString().slice(0, 23).replace("T", " ");
  };
  const place = (part) => left + (part - from) / (to - from) * (width - left);

  const draw = () => {
    for (const one of plot.querySelectorAll("rect[data-a]")) {
      const a = place(Number(one.dataset.a)), b = Math.max(place(Number(one.dataset.b)), a + 3);
      const start = Math.min(Math.max(a, left), width), end = Math.min(Math.max(b, left), width);
      one.setAttribute("x", start);
      one.setAttribute("width", end - start);
    }
    for (const one of plot.querySelectorAll(".mark[data-a]")) {
      const x = place(Number(one.dataset.a));
      one.setAttribute("transform", "translate(" + x + " " + one.dataset.y + ")");
      one.setAttribute("visibility", x < left || x > width ? "hidden" : "visible");
    }
    for (const one of plot.querySelectorAll(".tick")) {
      const text = moment(from + Number(one.dataset.a) * (to - from));
      one.querySelector("text").textContent = (to - from) * (last - first) < 86400000 ? text.slice(11) : text.slice(0, 16);
    }
    range.textContent = moment(from) + " to " + moment(to);
    plot.setAttribute("aria-label", "Timeline from " + range.textContent);
  };

  const view = (a, b) => {
    const least = Math.min(1, 10 / (last - first)), size = Math.min(Math.max(b - a, least), 1);
    from = Math.min(Math.max((a + b - size) / 2, 0), 1 - size);
    to = from + size;
    draw();
  };
  const zoom = (by, at = 0.5) => {
    const middle = from + at * (to - from), size = (to - from) * by;
    view(middle - at * size, middle + (1 - at) * size);
  };
  const move = (by) => {
    const size = to - from, start = Math.min(Math.max(from + by * size, 0), 1 - size);
    view(start, start + size);
  };
  const doings = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "ArrowLeft": () => move(-0.25),
    "ArrowRight": () => move(0.25), "0": () => view(0, 1), "Home": () => view(0, 1),
  };
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in doings)) return;
    event.preventDefault();
    doings[event.key]();
  });
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = plot.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, (event.clientX - box.left) / box.width);
  }, { passive: false });
  const buttons = { "zoom-in": "+", "zoom-out": "-", "earlier": "ArrowLeft", "later": "ArrowRight", "all": "0" };
  for (const [id, key] of Object.entries(buttons)) document.getElementById(id).addEventListener("click", doings[key]);

  for (const box of document.querySelectorAll("input.kind")) {
    box.disabled = false;
    box.addEventListener("change", () => {
      for (const one of plot.querySelectorAll("[data-kind]")) {
        if (one.dataset.kind === box.value) one.classList.toggle("off", !box.checked);
        if (one.dataset.kind === box.value) one.setAttribute("display", box.checked ? "inline" : "none");
      }
    });
  }
  range.textContent = moment(0) + " to " + moment(1);
})();
