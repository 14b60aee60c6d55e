// The page's state in the address behind #, so that a link leads back to it.

export function readLink() {
  const [tab, query] = location.hash.slice(1).split("?");
  return { tab, values: new URLSearchParams(query ?? "") };
}

// `values`: texts by name; empty ones are left out.
export function writeLink(tab, values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = kept.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%3A", ":").replaceAll("%2C", ",")}`);
  history.replaceState(null, "", `#${tab}${query.length ? `?${query.join("&")}` : ""}`);
}

// {a: 1, b: -2} as "a:1,b:-2".
export const packNumbers = (numbers) =>
  Object.entries(numbers)
    .map(([name, value]) => `${encodeURIComponent(name)}:${Math.round(value * 1000) / 1000}`)
    .join(",");

export function unpackNumbers(text) {
  const numbers = {};
  for (const part of (text ?? "").split(",")) {
    const [name, value] = part.split(":");
    if (name && Number.isFinite(Number(value)) && value !== "") numbers[decodeURIComponent(name)] = Number(value);
  }
  return numbers;
}

export function numberOr(text, fallback) {
  const value = text === null || text === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : fallback;
}
