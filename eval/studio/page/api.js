// Requests to the server; a failure becomes an error with the server's sentence.

const WAIT_MS = 700;

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw new Error("The studio does not answer; check that it is still running.");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(sentence(error ?? `the studio answered with status ${response.status}.`));
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Asks again while the server is computing; `working` gets its sentence.
async function whenThere(path, options, working = () => {}) {
  for (;;) {
    const response = await request(path, options);
    if (response.status !== 202) return response;
    working(sentence((await response.json()).working));
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
  }
}

function asJson(body) {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

export const get = async (path, working) => (await whenThere(path, {}, working)).json();
export const post = async (path, body, working) => (await whenThere(path, asJson(body), working)).json();
export const picture = async (path, body, working) => (await whenThere(path, asJson(body), working)).blob();
export const upload = async (file) =>
  (await request("uploads", { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file })).json();
export const runPath = (run, rest) => `runs/${encodeURIComponent(run)}/${rest}`;
export const facePath = (split, row) => `/api/data/${split}/${row}/picture`;
