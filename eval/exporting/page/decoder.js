// The decoder, in this page: latents to pictures, by onnxruntime-web.

import * as ort from "ort";

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

export const floatsOf = (base64) => new Float32Array(bytesOf(base64).buffer);

// A compressed file that the page holds.
async function held(id) {
  const packed = new Blob([bytesOf(document.getElementById(id).textContent)]);
  return new Uint8Array(await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

// `model`: the image's channels, height and width, the number of latents, whether it takes a degree, and, where noise becomes
// latents by a flow, the number of its steps.
export async function openDecoder({ channels, height, width, num_latents: numLatents, condition, num_flow_steps: numSteps }) {
  ort.env.wasm.wasmBinary = await held("runtime");
  ort.env.wasm.numThreads = 1;
  const decoder = await ort.InferenceSession.create(await held("decoder"));
  const flow = numSteps && (await ort.InferenceSession.create(await held("flow_step")));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const drawing = canvas.getContext("2d");

  const tensor = (values, ...shape) => new ort.Tensor("float32", values, shape);
  const scalar = (value) => tensor(new Float32Array([value]), 1);

  function inputsOf(session, inputs, degree) {
    return session.inputNames.includes("degrees") ? { ...inputs, degrees: scalar(degree) } : inputs;
  }

  // Noise to latents; a flow without a condition was followed when the page was made.
  async function follow(noise, degree) {
    let points = tensor(noise, 1, numLatents);
    let latents = points;
    for (let step = 0; step < numSteps; step++) {
      const inputs = { points, times: scalar(step / numSteps), next_times: scalar((step + 1) / numSteps) };
      ({ next_points: points, latents } = await flow.run(inputsOf(flow, inputs, degree)));
    }
    return latents;
  }

  function draw(values) {
    const plane = height * width;
    const pixels = drawing.createImageData(width, height);
    for (let place = 0; place < plane; place++) {
      for (let channel = 0; channel < 3; channel++) {
        pixels.data[4 * place + channel] = Math.round((values[(channel % channels) * plane + place] + 1) * 127.5);
      }
      pixels.data[4 * place + 3] = 255;
    }
    drawing.putImageData(pixels, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve));
  }

  // `degree`: NaN where it is unknown.
  return async function decode(latent, degree) {
    const latents = flow ? await follow(latent, degree) : tensor(latent, 1, numLatents);
    const { images } = await decoder.run(inputsOf(decoder, { latents }, condition ? degree : NaN));
    return draw(images.data);
  };
}
