// Building blocks of the page: elements, sliders, notices, and pictures that follow the newest request.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function notify(error) {
  const made = notice(error.message ?? String(error));
  $("notices").replaceChildren(made);
  return made;
}

// A sentence that stays until it is closed.
export function notice(text) {
  const close = element("button", { type: "button", textContent: "Close" });
  const made = element("div", { className: "notice" }, element("span", { textContent: text }), close);
  close.addEventListener("click", () => made.remove());
  return made;
}

// Runs an action on an event; errors are shown on the page.
export function on(target, event, action) {
  target.addEventListener(event, (happened) => {
    Promise.resolve()
      .then(() => action(happened))
      .catch(notify);
  });
}

let numSliders = 0;

// A labelled range with a number field. `trained`: [low, high], marked on the track.
export class Slider {
  constructor({ label, small = "", min, max, step = 0.05, value = 0, trained = null, note = "", lockable = false, limit = null }) {
    const id = `slider-${++numSliders}`;
    this.trained = trained;
    this.range = element("input", { type: "range", id, min, max, step, value });
    this.number = element("input", { type: "number", step, value: tidy(value), min: limit ? -limit : min, max: limit ?? max });
    this.number.setAttribute("aria-label", `${label}, as a number`);
    const name = element("label", { htmlFor: id, textContent: label });
    if (small) name.append(element("small", { textContent: small }));
    this.element = element("div", { className: "slider" });
    if (lockable) {
      this.lock = lockButton(label);
      this.element.classList.add("lockable");
      this.element.append(this.lock);
    }
    this.element.append(name, this.range, this.number);
    if (note) this.element.append(element("p", { className: "note", textContent: note }));
    if (trained) {
      const place = (degree) => `${(100 * (degree - min)) / (max - min)}%`;
      this.range.style.setProperty("--low", place(trained[0]));
      this.range.style.setProperty("--high", place(trained[1]));
    }
    this.range.addEventListener("input", (event) => this.moved(this.range.valueAsNumber, event));
    this.range.addEventListener("dblclick", () => this.onreset?.());
    this.number.addEventListener("change", (event) => {
      const wanted = this.number.valueAsNumber;
      if (Number.isFinite(wanted)) this.moved(Math.min(Math.max(wanted, +this.number.min), +this.number.max), event);
      else this.show(this.value);
    });
    this.show(value);
  }

  moved(value, event) {
    this.show(value);
    this.onmove?.(value, event.timeStamp);
  }

  // Moves the slider without calling onmove.
  show(value) {
    this.value = value;
    this.range.value = value;
    this.number.value = tidy(value);
    this.element.classList.toggle("beyond", this.trained !== null && (value < this.trained[0] || value > this.trained[1]));
  }

  get locked() {
    return this.lock?.getAttribute("aria-pressed") === "true";
  }

  set locked(locked) {
    this.lock?.setAttribute("aria-pressed", String(locked));
  }
}

const tidy = (value) => String(Math.round(value * 1000) / 1000);

function lockButton(label) {
  const lock = element("button", { type: "button", className: "lock", title: "Random faces keep this" });
  lock.setAttribute("aria-pressed", "false");
  lock.setAttribute("aria-label", `Keep ${label} in random faces`);
  lock.innerHTML =
    '<svg viewBox="0 0 20 20" aria-hidden="true"><rect x="4.5" y="9" width="11" height="7.5" rx="1.5"/>' +
    '<path class="shackle-closed" d="M7 9V6.5a3 3 0 0 1 6 0V9"/><path class="shackle-open" d="M7 9V6.5a3 3 0 0 1 5.8-1"/></svg>';
  lock.addEventListener("click", () => lock.setAttribute("aria-pressed", String(lock.getAttribute("aria-pressed") !== "true")));
  return lock;
}

// The degree of a conditional run; null keeps the face's own.
export function degreeSlider(condition, value) {
  const { label, low, high } = condition;
  const span = Math.max(high - low, 0.1);
  return new Slider({
    label: `Degree of ${label}`,
    small: value === null ? "the face's own" : "",
    min: Math.max(low - span, -5),
    max: Math.min(high + span, 5),
    limit: 5,
    value: value ?? (low + high) / 2,
    trained: [low, high],
    note: `The marked range, ${tidy(low)} to ${tidy(high)}, is what it was trained on; beyond it the model extrapolates.`,
  });
}

const shown = new WeakMap();

export async function show(image, blob, alt) {
  const url = URL.createObjectURL(blob);
  image.src = url;
  image.alt = alt;
  await image.decode();
  URL.revokeObjectURL(shown.get(image));
  shown.set(image, url);
}

let complaint = null; // The notice about a failed picture: removed when the next picture arrives. Other notices stay until closed.

// Keeps a picture up to date: while one request is under way, only the newest of the others is kept.
export class Painter {
  constructor(image, ask, clock = null) {
    this.image = image;
    this.ask = ask;
    this.clock = clock;
    this.next = null;
    this.busy = null;
  }

  // `since`: performance.now() of the move; the time to the repaint is measured from there.
  paint(request, since = performance.now()) {
    this.next = { request, since };
    this.busy ??= this.run().finally(() => (this.busy = null));
    return this.busy;
  }

  async run() {
    while (this.next) {
      const { request, since } = this.next;
      this.next = null;
      try {
        const { blob, alt } = await this.ask(request);
        await show(this.image, blob, alt);
        await new Promise(requestAnimationFrame);
        const { duration } = performance.measure("repaint", { start: since, end: performance.now(), detail: this.image.id });
        if (this.clock) this.clock.textContent = `${Math.round(duration)} ms`;
        complaint?.remove();
      } catch (error) {
        if (!this.next) complaint = notify(error);
      }
    }
  }
}

export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function option(value, text) {
  return element("option", { value, textContent: text });
}

export const randomSeed = () => Math.floor(Math.random() * 2 ** 31);

export async function copyLink(button) {
  await navigator.clipboard.writeText(location.href);
  const text = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = text), 1200);
}

export function describeFace(face) {
  switch (face.kind) {
    case "sample":
      return `seed ${face.seed}`;
    case "mean":
      return "average face";
    case "data":
      return `${face.split} ${face.row}`;
    case "upload":
      return "photo";
    default:
      return "saved latent";
  }
}
