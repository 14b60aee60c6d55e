"use strict";
// States of the page: start, waiting (a cross), showing (a face; the clock runs), pause, end.

const CROSS_MS = 400;
const RETRY_MS = 1000;
const KEYS = { KeyJ: true, KeyF: false };

const body = document.body;
const face = document.getElementById("face");
let subject = "";
let upcoming = [];  // trials in order, the current one first
let shownAt = 0;    // performance.now() of the frame that showed the face
let turn = 0;       // grows with every change of state: a callback from an earlier turn does nothing
let sending = Promise.resolve();  // answers are sent one after the other
const pictures = new Map();  // decoded pictures by number

function setState(state) {
  turn += 1;
  body.dataset.state = state;
}

function trouble(text) {
  document.getElementById("trouble").textContent = text;
}

async function ask(path, content) {
  const options = content === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  };
  const answer = await fetch(path, options);
  const result = await answer.json();
  if (!answer.ok) {
    const error = new Error(result.error);
    error.isFinal = answer.status < 500;
    throw error;
  }
  return result;
}

// Retries until the server is back; a request that the server refused is not retried.
async function askUntilAnswered(path, content) {
  for (;;) {
    try {
      const result = await ask(path, content);
      trouble("");
      return result;
    } catch (error) {
      if (error.isFinal) throw error;
      trouble("The server cannot be reached. Leave this page open: your answer is sent as soon as it is back.");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function take(state) {
  upcoming = state.upcoming;
  const progress = document.getElementById("progress");
  progress.max = state.total;
  progress.value = state.done;
  document.getElementById("count").textContent = `${state.done} of ${state.total}`;
  // A picture that fails now is fetched again when it is due.
  for (const { image } of upcoming) picture(image).catch(() => pictures.delete(image));
}

// Fetches and decodes ahead of time: the clock must not measure that.
function picture(number) {
  if (!pictures.has(number)) {
    const image = new Image();
    image.src = `/images/${number}`;
    pictures.set(number, image.decode().then(() => image));
    if (pictures.size > 16) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(number);
}

async function showNext() {
  if (!upcoming.length) {
    setState("end");
    return;
  }
  setState("waiting");
  const mine = turn;
  const number = upcoming[0].image;
  const pause = new Promise((resolve) => setTimeout(resolve, CROSS_MS));
  try {
    face.src = (await picture(number)).src;
    await face.decode();
  } catch {
    pictures.delete(number);
    trouble("The picture cannot be loaded; trying again.");
    setTimeout(() => { if (turn === mine) showNext(); }, RETRY_MS);
    return;
  }
  await pause;
  if (turn !== mine) return;
  // The first frame draws the face; the second one begins when the face is on the screen.
  requestAnimationFrame(() => {
    if (turn !== mine) return;
    setState("showing");
    const shown = turn;
    requestAnimationFrame((time) => { if (turn === shown) shownAt = time; });
    shownAt = 0;
  });
}

// The cross stays until the answer is on the server's disk.
function send(path, content) {
  setState("waiting");
  sending = sending.then(async () => {
    try {
      take(await askUntilAnswered(path, content));
    } catch (error) {
      trouble(error.message);
      return;
    }
    if (body.dataset.state === "waiting") await showNext();
  });
}

function answer(smile, time) {
  const { trial } = upcoming[0];
  send("/api/answer", { subject, trial, smile, rt_ms: Math.max(0, time - shownAt) });
}

document.getElementById("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  subject = document.getElementById("subject").value;
  try {
    take(await ask(`/api/state?subject=${encodeURIComponent(subject)}`));
  } catch (error) {
    document.getElementById("message").textContent = error.message;
    return;
  }
  document.activeElement.blur();
  showNext();
});

addEventListener("keydown", (event) => {
  if (body.dataset.state === "start" || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const state = body.dataset.state;
  if (state === "showing" && event.code in KEYS && shownAt) {
    event.preventDefault();
    answer(KEYS[event.code], event.timeStamp);
  } else if (event.code === "Backspace" && (state === "showing" || state === "end")) {
    event.preventDefault();
    send("/api/undo", { subject });
  } else if (event.code === "Escape" && (state === "showing" || state === "waiting")) {
    setState("pause");
  } else if (event.code === "Space" && state === "pause") {
    event.preventDefault();
    showNext();
  }
});

// A face hidden behind another tab gives no valid reaction time.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && ["showing", "waiting"].includes(body.dataset.state)) setState("pause");
});
