// What a run's samples are drawn from before anything is chosen.

const PRIOR_STD = 0.7; // At 1, many models draw no faces from their prior.

export const firstSampler = (run) => run.sampler ?? run.samplers[0] ?? null;
export const firstStd = (sampler) => (sampler ? 1 : PRIOR_STD);

export function sampleOf(run, seed) {
  const sampler = firstSampler(run);
  return { kind: "sample", seed, std: firstStd(sampler), sampler };
}

// A face for another run: a sampler that the run lacks is replaced by its own.
export const faceFor = (run, face) =>
  face.kind !== "sample" || face.sampler === null || run.samplers.includes(face.sampler) ? face : { ...face, sampler: firstSampler(run) };
