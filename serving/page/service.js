// Asks the service, says what went wrong, and writes a request as a command or a program.

const SECONDS = 20; // the service answers within 6; a proxy in front of it may not

let key = ""; // in memory only

export const setKey = (text) => {
  key = text.trim();
};
export const hasKey = () => key !== "";

/**
 * Why there is no answer. `title` is the key of a text, and `${title}Why` of the one that explains it, unless
 * `explanation` does; `values` are theirs. `retryAfter`: seconds until it is worth trying again, 0 for never by itself.
 * `requestId` is that of the request in the service's log.
 */
export class Problem extends Error {
  constructor(title, { explanation = `${title}Why`, values = {}, status = 0, retryAfter = 0 } = {}) {
    super(title);
    Object.assign(this, { title, explanation, values, status, retryAfter });
  }
}

/** POST a JSON text to a route; returns the answer. Throws Problem, or the signal's reason once it is aborted. */
export async function post(route, body, signal) {
  const headers = { "Content-Type": "application/json" };
  // a header is bytes: a key's are those of UTF-8
  if (key) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}`;
  const request = new AbortController();
  const abort = () => request.abort();
  signal.addEventListener("abort", abort);
  let isLate = false;
  const limit = setTimeout(() => {
    isLate = true;
    abort();
  }, SECONDS * 1000);
  const options = { method: "POST", headers, body, cache: "no-store", credentials: "omit", signal: request.signal };
  try {
    const [response, text] = await fetch(route, options)
      .then(async (answer) => [answer, await answer.text()])
      .catch(() => {
        if (signal.aborted) throw signal.reason;
        if (isLate) throw new Problem("silentService", { values: { n: SECONDS } });
        throw new Problem("gone", { retryAfter: 1 });
      });
    const answer = parse(text);
    if (response.ok && answer) return answer;
    throw Object.assign(problemOf(response, answer), { requestId: response.headers.get("X-Request-ID") });
  } finally {
    clearTimeout(limit);
    signal.removeEventListener("abort", abort);
  }
}

function problemOf(response, answer) {
  const { status } = response;
  const retryAfter = Number(response.headers.get("Retry-After")) || 1;
  const { field = "", message = "" } = answer?.detail?.[0] ?? {};
  const at = field.match(/messages\[(\d+)\]/);
  switch (status) {
    case 400:
      if (at) return new Problem("rejected", { explanation: "messageFault", values: { n: Number(at[1]) + 1, message }, status });
      return new Problem("rejected", message ? { explanation: "fault", values: { message }, status } : { status });
    case 401:
      return new Problem(key ? "wrongKey" : "noKey", { status });
    case 408:
      return new Problem("late", { status });
    case 413:
      return new Problem("tooLarge", { status });
    case 429:
      return new Problem("busy", { status, retryAfter });
    case 503:
      return new Problem("down", { status, retryAfter });
    case 502:
    case 504:
      return new Problem("gone", { explanation: "goneProxyWhy", status, retryAfter: 1 });
    default:
      return new Problem("failed", { values: { status }, status });
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null; // a proxy's page, for instance
    throw error;
  }
}

/** Write a request as a command for a POSIX shell. The body is a quoted here-document: the shell changes nothing in it. */
export function asCurl(route, body) {
  const authorization = key ? ` \\\n  -H "Authorization: Bearer $API_KEY"` : "";
  return `curl -X POST ${quote(address(route))} \\\n  -H 'Content-Type: application/json'${authorization} \\\n  --data-binary @- <<'JSON'\n${body}\nJSON\n`;
}

/** Write a request as a Python program for BentoML's client. JSON of strings, integers, lists and objects is Python, too. */
export function asPython(route, body) {
  const [imports, token] = key
    ? ["import os\n\nimport bentoml", `, token=os.environ["API_KEY"]`]
    : ["import bentoml", ""];
  const server = JSON.stringify(address(".").replace(/\/$/, ""));
  return `${imports}\n\nrequest = ${body}\n\nwith bentoml.SyncHTTPClient(${server}${token}) as client:\n    print(client.${route}(request))\n`;
}

const address = (route) => new URL(route, document.baseURI).href;
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
