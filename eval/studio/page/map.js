// Map: held-out faces in the plane of their latents.

import { facePath, get, runPath } from "./api.js";
import { $, element, notify, on, option } from "./dom.js";

const RADIUS = 3.5;
const MARGIN = 0.03;
const NEAR_PIXELS = 24;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function makeMap(page) {
  let run;
  let points = null;
  let current = -1;
  const canvas = $("map-canvas");

  async function load() {
    points = null;
    current = -1;
    draw();
    if (!page.studio.data || !run.can.includes("encode")) {
      $("map-about").textContent = page.studio.data ? `${run.name} cannot encode faces.` : "Start the studio with --data DIR to see its faces.";
      $("map-legend").replaceChildren();
      return;
    }
    const asked = `${run.name} ${$("map-method").value} ${$("map-label").value}`;
    const label = $("map-label").value;
    const query = `map?method=${$("map-method").value}${label ? `&label=${encodeURIComponent(label)}` : ""}`;
    try {
      const found = await get(runPath(run.name, query), (text) => ($("map-about").textContent = text));
      if (asked !== `${run.name} ${$("map-method").value} ${$("map-label").value}`) return;
      points = found;
      const near = $("map-method").value === "tsne" ? " Near means similar; distances between groups mean nothing." : "";
      $("map-about").textContent = `${points.rows.length.toLocaleString("en")} faces of ${points.split}.${near}`;
    } catch (error) {
      $("map-about").textContent = error.message;
    }
    $("map-legend").replaceChildren(...(points?.legend ?? []).map(entry));
    draw();
  }

  function entry([text, color]) {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    dot.setAttribute("viewBox", "0 0 12 12");
    dot.setAttribute("aria-hidden", "true");
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ cx: 6, cy: 6, r: 5, fill: color })) circle.setAttribute(name, value);
    dot.append(circle);
    return element("li", {}, dot, text);
  }

  const side = () => canvas.clientWidth;
  const place = (index) => [points.x[index], 1 - points.y[index]].map((value) => (MARGIN + value * (1 - 2 * MARGIN)) * side());

  function draw() {
    const scale = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.max(side() * scale, 1);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    if (!points) return;
    const style = getComputedStyle(document.documentElement);
    const unknown = style.getPropertyValue("--soft");
    pen.globalAlpha = 0.85;
    // Any color may be close to the light or the dark background.
    pen.strokeStyle = unknown;
    pen.lineWidth = 0.6;
    points.rows.forEach((_, index) => {
      pen.fillStyle = points.colors[index] || unknown;
      pen.beginPath();
      pen.arc(...place(index), RADIUS, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    });
    if (current < 0) return;
    pen.globalAlpha = 1;
    pen.strokeStyle = style.getPropertyValue("--ink");
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.arc(...place(current), RADIUS + 5, 0, 2 * Math.PI);
    pen.stroke();
  }

  function choose(index) {
    if (index === current || index < 0) return;
    current = index;
    const row = points.rows[index];
    $("map-face").src = facePath(points.split, row);
    $("map-face").alt = `${points.split} ${row}`;
    $("map-caption").textContent = `${points.split} ${row}: click or Enter edits it`;
    draw();
  }

  function nearest(x, y, reach, accept = () => true) {
    let best = -1;
    let least = reach * reach;
    points?.rows.forEach((_, index) => {
      const [px, py] = place(index);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least && accept(px - x, py - y)) [best, least] = [index, distance];
    });
    return best;
  }

  const pointed = (event) => nearest(event.offsetX, event.offsetY, NEAR_PIXELS);
  const edit = () => current >= 0 && page.edit({ face: { kind: "data", split: points.split, row: points.rows[current] }, axes: {} });

  on(canvas, "pointermove", (event) => choose(pointed(event)));
  on(canvas, "click", (event) => {
    const index = pointed(event);
    choose(index);
    return index >= 0 && edit();
  });
  on(canvas, "keydown", (event) => {
    if (event.key === "Enter") return edit();
    const way = ARROWS[event.key];
    if (!way || !points) return undefined;
    event.preventDefault();
    if (current < 0) return choose(nearest(side() / 2, side() / 2, Infinity));
    // The nearest face within a quarter turn of the arrow's direction.
    const ahead = (x, y) => x * way[0] + y * way[1] > Math.abs(x * way[1] + y * way[0]) && (x || y);
    return choose(nearest(...place(current), Infinity, ahead));
  });
  on($("map-method"), "change", load);
  on($("map-label"), "change", load);
  new ResizeObserver(() => !$("map").hidden && draw()).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  return {
    async setRun(chosen) {
      run = chosen;
      points = null;
      if (!$("map-label").options.length) {
        const labels = page.studio.data?.labels ?? [];
        $("map-label").replaceChildren(option("", "one color"), ...labels.map((label) => option(label, label.replaceAll("_", " "))));
        const smile = labels.find((label) => /^smil/i.test(label));
        $("map-label").value = smile ?? "";
      }
      if (page.tab() === "map") load().catch(notify);
    },
    async show() {
      if (points) draw();
      else await load();
    },
  };
}
