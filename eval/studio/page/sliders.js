// The sliders of a face: axes of latent space, and attribute vectors.

import { Slider } from "./dom.js";

export const FIRST = 12; // So many axes are shown at first.
const AXIS_SPAN = 3;
const ATTRIBUTE_SPAN = 2;
// Of each kind of axes: their heading, what it says about them, and the text of each.
export const KINDS = {
  component: ["Principal components", "in standard deviations of training faces, the most explaining first; double-click undoes a move", "Component", "of variance"],
  direction: ["Directions", "in standard deviations of training faces, those that change the picture most first; double-click undoes a move", "Direction", "of change"],
  dim: ["Latent dims", "in standard deviations of the prior; without faces there are no components", "Dim", ""],
};

// `axis`: its number from 0, and its share of the variance or of the change.
export function axisSlider(kind, { number, share }, lockable = false) {
  const [, , label, ofWhat] = KINDS[kind];
  return new Slider({
    label: `${label} ${kind === "dim" ? number : number + 1}`,
    small: share === null ? "" : `${(100 * share).toFixed(1)} % ${ofWhat}`,
    min: -AXIS_SPAN,
    max: AXIS_SPAN,
    limit: 20,
    lockable,
  });
}

// 1 is the distance between the mean with the attribute and the mean without it.
export function attributeSlider(attribute, value = 0) {
  const slider = new Slider({
    label: attribute.name.replaceAll("_", " "),
    small: `${attribute.num_present.toLocaleString("en")} with, ${attribute.num_absent.toLocaleString("en")} without`,
    min: -ATTRIBUTE_SPAN,
    max: ATTRIBUTE_SPAN,
    limit: 10,
    value,
  });
  slider.onreset = () => slider.moved(0, { timeStamp: performance.now() });
  return slider;
}
