// Asks the service, says in words what went wrong, and writes a request as a command or a program.

const SECONDS = 20; // the service answers within 6; a proxy in front of it may not

let key = ""; // in memory only

export const setKey = (text) => {
  key = text.trim();
};
export const hasKey = () => key !== "";

/** Why there is no answer: a title and an explanation in words, and whether and when to try again by itself. */
export class Problem extends Error {
  constructor(title, explanation, { status = 0, retryAfter = 0, field = "" } = {}) {
    super(title);
    Object.assign(this, { title, explanation, status, retryAfter, field });
  }
}

/** The bodies that were sent last, by route. */
export const sent = new Map();

/** POST a JSON text to a route; returns the answer. Throws Problem, or AbortError when the signal says so. */
export async function post(route, body, signal) {
  sent.set(route, body);
  const headers = { "Content-Type": "application/json" };
  // a header is bytes: a key's are those of UTF-8
  if (key) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}`;
  let response, text;
  try {
    const limit = AbortSignal.timeout(SECONDS * 1000);
    response = await fetch(route, {
      method: "POST",
      headers,
      body,
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.any([signal, limit]),
    });
    text = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    if (error.name === "TimeoutError")
      throw new Problem("The service did not answer", `There was no answer within ${SECONDS} seconds.`);
    throw new Problem("The service cannot be reached", "It may be stopped or restarting, or the network is down.", {
      retryAfter: 1,
    });
  }
  const answer = parse(text);
  if (response.ok && answer) return answer;
  throw problemOf(response, answer);
}

function problemOf(response, answer) {
  const { status } = response;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const { field = "", message = "" } = answer?.detail?.[0] ?? {};
  switch (status) {
    case 400:
      return new Problem(
        "The service does not accept this chat",
        words(field, message) || answer?.error || "The request is not valid.",
        { status, field },
      );
    case 401:
      return key
        ? new Problem("The API key was not accepted", "Check the key. It may have been changed or mistyped.", {
            status,
          })
        : new Problem("This service needs an API key", "Whoever runs the service gives out keys.", { status });
    case 408:
      return new Problem("The chat did not arrive in time", "The connection may be slow.", { status });
    case 413:
      return new Problem("The chat is too large", "The service limits the size of a request. Remove some messages.", {
        status,
      });
    case 429:
      return new Problem("The service is busy", "More requests came than it answers at a time.", {
        status,
        retryAfter: retryAfter || 1,
      });
    case 503:
      return new Problem("The service cannot answer right now", "It is overloaded or starting.", {
        status,
        retryAfter: retryAfter || 1,
      });
    case 502:
    case 504:
      return new Problem("The service cannot be reached", "A proxy in front of it answers, but the service does not.", {
        status,
        retryAfter: 1,
      });
    default:
      return new Problem("The service failed", `It answered with status ${status}.`, { status });
  }
}

function words(field, message) {
  const at = field.match(/messages\[(\d+)\]/);
  return at ? `Message ${Number(at[1]) + 1}: ${message}.` : message && `${message}.`;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
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
