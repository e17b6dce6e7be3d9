import { API_PREFIX } from "../wire/adminapi.js";

/**
 * What Node does inside a container for us, as text for `node -e`: our own programs could do it too, and each start of
 * one reads a bundle of a megabyte or two, which takes a quarter of a second there.
 */

const AGENT_SOCKET = "/run/exitnode/agent.sock";
const ADMIN_SOCKET = "/run/exitnode-coordinator/admin.sock";

/** A whoami service takes a round trip; a daemon that is just starting some seconds. */
const SERVICE_TIMEOUT_MS = 3_000;
const LOOK_TIMEOUT_MS = 6_000;
const CALL_TIMEOUT_MS = 12_000;
const WHOAMI_LENGTH_MAX = 200;
/** Of what a daemon answers: a list of twenty thousand devices. Twice that is what SSH brings back. */
export const ANSWER_LENGTH_MAX = 8 * 1024 * 1024;

/** The stream's text, up to `last` where one is given; undefined when it is longer than `max`, or cut off. */
const READ = `
const read = (stream, max, last) => new Promise((resolve) => {
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
    const over = text.length > max;
    if (!over && last && text.endsWith(last)) resolve(text);
    if (over || (last && text.endsWith(last))) stream.destroy();
  });
  stream.on("end", () => resolve(text)).on("error", () => {}).on("close", () => resolve(undefined));
});
`;

/**
 * Arguments: the mark that begins a section, then the whoami services' URLs. Asks them over both families, the agent,
 * and the coordinator, all at once; whoever does not answer in time has an empty section.
 */
export const LOOK_PROGRAM = `
const { argv, exit, stdout } = process;
const [mark, ...urls] = argv.slice(1);
${READ}
const json = (text) => { try { return JSON.parse(text); } catch { return undefined; } };
const get = (options, family) => new Promise((resolve) => {
  const { get } = String(options).startsWith("https:") ? require("node:https") : require("node:http");
  const request = get(options, { family, agent: false, timeout: ${SERVICE_TIMEOUT_MS}, headers: { accept: "text/plain" } }, async (response) => {
    const text = (await read(response, ${WHOAMI_LENGTH_MAX}) ?? "").trim();
    resolve(response.statusCode === 200 && require("node:net").isIP(text) === family ? text : undefined);
  });
  request.on("timeout", () => request.destroy());
  request.on("error", () => resolve(undefined));
});
const first = async (family) => { for (const url of urls) { const seen = await get(url, family); if (seen) return seen; } };
const socket = require("node:net").connect("${AGENT_SOCKET}", () => socket.write('{"do":"status"}\\n'));
const agent = read(socket, ${ANSWER_LENGTH_MAX}, "\\n").then((text) => json(text)?.value);
const coordinator = new Promise((resolve) => {
  const request = require("node:http").get({ socketPath: "${ADMIN_SOCKET}", path: "${API_PREFIX}/status" }, (response) => {
    resolve(read(response, ${ANSWER_LENGTH_MAX}).then(json));
  });
  request.on("error", () => resolve(undefined));
});
const seen = {};
const works = { outside: Promise.all([first(4), first(6)]).then(([ipv4, ipv6]) => ({ ipv4, ipv6 })), agent, coordinator };
const all = Object.entries(works).map(async ([name, work]) => { seen[name] = await work; });
Promise.race([Promise.all(all), new Promise((resolve) => setTimeout(resolve, ${LOOK_TIMEOUT_MS}))]).then(() => {
  const text = Object.keys(works).map((name) => mark + " " + name + "\\n" + (JSON.stringify(seen[name]) ?? "") + "\\n").join("");
  stdout.write(text, () => exit(0));
});
`;

/** Arguments: method and path. One request to the coordinator's admin socket, its body on stdin; exit 1 when refused. */
export const CALL_PROGRAM = `
const { argv, exit, stdin, stdout } = process;
const [method, path] = argv.slice(1);
${READ}
const fail = (reason) => { console.error(reason); exit(2); };
const send = (body) => {
  const failed = (error) => fail(error.code === "ENOENT" || error.code === "ECONNREFUSED" ? "nothing listens at ${ADMIN_SOCKET}" : error.message);
  const signal = AbortSignal.timeout(${CALL_TIMEOUT_MS});
  const request = require("node:http").request({ socketPath: "${ADMIN_SOCKET}", method, path, signal }, async (response) => {
    response.on("error", failed);
    const text = await read(response, ${ANSWER_LENGTH_MAX});
    if (text === undefined) return fail("the answer was cut off, or is longer than ${ANSWER_LENGTH_MAX} characters");
    stdout.write(text || "{}", () => exit(response.statusCode < 400 ? 0 : 1));
  });
  request.on("error", failed);
  request.end(body);
};
// Without a body stdin is left alone: over SSH it may stay open for ever.
if (/^P/.test(method)) {
  read(stdin, ${ANSWER_LENGTH_MAX}).then((body) => body === undefined ? fail("the request is longer than ${ANSWER_LENGTH_MAX} characters") : send(body));
} else send();
`;
