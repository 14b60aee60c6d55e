// A face and its sliders.

import { $, Painter, degreeSlider, element, notify, on, save } from "./dom.js";
import { FIRST, KINDS, attributeSlider, axisSlider } from "./sliders.js";
import { floatsOf, openDecoder } from "./decoder.js";

const model = JSON.parse($("model").textContent);
const axes = model.axes.map((axis) => ({ ...axis, direction: floatsOf(axis.direction) }));
const attributes = model.attributes.map((attribute) => ({ ...attribute, vector: floatsOf(attribute.vector) }));
const faces = model.faces.map((face) => ({ ...face, latent: floatsOf(face.latent) }));

let face = faces[0];
let moves = new Map(); // Of the axes that were moved: where to.
let strengths = new Map();
let degree = null; // Null keeps the face's own.

const dot = (left, right) => left.reduce((sum, value, place) => sum + value * right[place], 0);
const place = ({ center, unit, direction }) => (unit ? (dot(direction, face.latent) - center) / unit : 0);

function latentOf() {
  const latent = Float64Array.from(face.latent);
  for (const [axis, target] of moves) {
    const distance = axis.center + axis.unit * target - dot(axis.direction, face.latent);
    axis.direction.forEach((value, dim) => (latent[dim] += distance * value));
  }
  for (const [{ vector }, strength] of strengths) vector.forEach((value, dim) => (latent[dim] += strength * value));
  return Float32Array.from(latent);
}

let decode;
const painter = new Painter(
  $("face"),
  async (asked) => ({ blob: await decode(asked.latent, asked.degree), alt: asked.alt }),
  $("ms"),
);

function paint(since) {
  const number = moves.size + strengths.size;
  $("caption").textContent = face.label + (number ? `, ${number} moved` : "");
  return painter.paint({ latent: latentOf(), degree: degree ?? face.degree ?? NaN, alt: `Face: ${$("caption").textContent}` }, since);
}

function showPlaces() {
  for (const { axis, slider } of axisSliders) slider.show(moves.get(axis) ?? place(axis));
  for (const { slider } of attributeSliders) slider.show(0);
}

function choose(chosen, moved = new Map()) {
  face = chosen;
  moves = moved;
  strengths = new Map();
  degree = null;
  makeDegree();
  showPlaces();
  return paint();
}

// Every listed axis where a normal distribution puts it, and all others in the middle.
function random() {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return choose(faces[0], new Map(axes.map((axis) => [axis, normal()])));
}

function makeDegree() {
  $("degree").replaceChildren();
  if (!model.condition) return;
  const slider = degreeSlider(model.condition, face.degree);
  slider.onmove = (value, since) => {
    degree = value;
    paint(since);
  };
  $("degree").append(slider.element);
}

const axisSliders = axes.map((axis, number) => {
  const slider = axisSlider(model.kind, axis);
  slider.onmove = (value, since) => {
    moves.set(axis, value);
    paint(since);
  };
  slider.onreset = () => {
    moves.delete(axis);
    slider.show(place(axis));
    paint();
  };
  slider.element.hidden = number >= FIRST;
  return { axis, slider };
});

const attributeSliders = attributes.map((attribute) => {
  const slider = attributeSlider(attribute);
  slider.onmove = (value, since) => {
    if (value) strengths.set(attribute, value);
    else strengths.delete(attribute);
    paint(since);
  };
  return { attribute, slider };
});

const [title, about] = KINDS[model.kind];
$("axes-title").textContent = title;
$("axes-about").textContent = about;
$("axes").append(...axisSliders.map(({ slider }) => slider.element));
$("attributes").append(...attributeSliders.map(({ slider }) => slider.element));
$("of-attributes").hidden = !attributes.length;
$("more").hidden = axes.length <= FIRST;
on($("more"), "click", () => {
  for (const { slider } of axisSliders) slider.element.hidden = false;
  $("more").hidden = true;
});
on($("random"), "click", random);
on($("undo"), "click", () => choose(face));
on($("png"), "click", async () => save(await decode(latentOf(), degree ?? face.degree ?? NaN), `${model.name}.png`));
$("faces").append(
  ...faces.map((each) => {
    const button = element("button", { type: "button", title: each.label }, element("img", { src: each.picture, alt: each.label }));
    on(button, "click", () => choose(each));
    return button;
  }),
);

try {
  decode = await openDecoder(model);
  await choose(face);
  document.body.setAttribute("aria-busy", "false");
} catch (error) {
  notify(error);
}
