// Two dialogs to choose a face: the data set and the webcam.

import { facePath, get } from "./api.js";
import { $, element, notify, on, option } from "./dom.js";
import { numberOr } from "./link.js";

const ON_A_PAGE = 40;
let picked;
let data;

export function pickFace(dataset, action) {
  if (!dataset) throw new Error("Start the studio with --data DIR to pick faces of a data set.");
  picked = action;
  if (data !== dataset) {
    data = dataset;
    $("picker-split").replaceChildren(...Object.entries(data.splits).map(([split, num]) => option(split, `${split} (${num.toLocaleString("en")})`)));
    $("picker-split").value = data.held_out;
  }
  $("picker").showModal();
  return fill();
}

async function fill() {
  const split = $("picker-split").value;
  const first = Math.min(Math.max(numberOr($("picker-first").value, 0), 0), data.splits[split] - 1);
  $("picker-first").value = first;
  $("picker-back").disabled = first === 0;
  $("picker-next").disabled = first + ON_A_PAGE >= data.splits[split];
  const faces = await get(`data/${split}?first=${first}&num=${ON_A_PAGE}`);
  const buttons = faces.map(({ row, key }) => {
    const image = element("img", { src: facePath(split, row), alt: `${split} ${row}: ${key}`, title: key, loading: "lazy" });
    const button = element("button", { type: "button" }, image);
    on(button, "click", () => {
      $("picker").close();
      return picked({ kind: "data", split, row });
    });
    return button;
  });
  $("picker-grid").replaceChildren(...buttons);
}

function turn(rows) {
  $("picker-first").value = Math.max(numberOr($("picker-first").value, 0) + rows, 0);
  return fill();
}

export function makePicker() {
  on($("picker-split"), "change", () => {
    $("picker-first").value = 0;
    return fill();
  });
  on($("picker-first"), "change", fill);
  on($("picker-back"), "click", () => turn(-ON_A_PAGE));
  on($("picker-next"), "click", () => turn(ON_A_PAGE));
  on($("picker-any"), "click", () => {
    $("picker-first").value = Math.floor(Math.random() * Math.max(data.splits[$("picker-split").value] - ON_A_PAGE, 1));
    return fill();
  });
}

// Opens the webcam and calls `action` with the picture.
export async function takePhoto(action) {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the webcam only on 127.0.0.1 or over https.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  } catch {
    throw new Error("The webcam cannot be opened: there is none, or the browser did not allow it.");
  }
  const video = $("webcam-video");
  video.srcObject = stream;
  $("webcam").showModal();
  $("webcam").onclose = () => {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  $("webcam-take").onclick = () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      $("webcam").close();
      Promise.resolve(action(blob)).catch(notify);
    }, "image/png");
  };
}
