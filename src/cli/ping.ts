import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { PingAnswer } from "../wire/agentsocket.js";
import { askPing } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { describeWay, explainWay } from "./peerway.js";
import { formatRoundTrip, SCREEN_COLUMNS } from "./table.js";

/** Tries of a ping that is to end when the path is direct: a search that finds one has mostly done so by then. */
export const TRIES = 10;
const COUNT_MAX = 10_000;
/** From the start of one try to the start of the next. */
const INTERVAL_MS: Millis = SECOND;

/**
 * Without --count: until a reply came directly. A reply through the relay is a reply: the command fails only when
 * there was none.
 */
export async function ping({ args, options, parts, signal }: Call): Promise<Outcome> {
  const peer = args[0] ?? "";
  const count = countFrom(options.count);
  const { clock, say } = parts;
  const began = clock.now();
  const replies: PingAnswer[] = [];
  let directAfterMs: Millis | undefined;
  for (let tries = 0; tries < (count ?? TRIES) && !signal.aborted; tries++) {
    const triedAt = clock.now();
    const answer = await askPing(parts.paths, peer);
    replies.push(answer);
    say(describeReply(answer));
    if (isReply(answer) && answer.path === "direct") directAfterMs ??= clock.now() - began;
    if (count === undefined && directAfterMs !== undefined) break;
    const restMs = triedAt + INTERVAL_MS - clock.now();
    if (tries + 1 < (count ?? TRIES) && restMs > 0) await clock.sleep(restMs, signal).catch(() => undefined);
  }
  const last = replies.at(-1);
  const answered = replies.filter(isReply).length;
  if (last === undefined || answered === 0) throw silence(peer, replies.length, last);
  return {
    value: { peer, path: last.path, sent: replies.length, answered, directAfterMs, why: last.why, replies },
    text: summary(last, replies.length, answered),
  };
}

function countFrom(given: Call["options"][string]): number | undefined {
  if (given === undefined) return undefined;
  const count = typeof given === "string" && /^\d{1,6}$/.test(given) ? Number(given) : 0;
  if (count >= 1 && count <= COUNT_MAX) return count;
  throw new Failure("usage", `--count expects a number from 1 to ${COUNT_MAX}, got "${String(given)}"`);
}

const isReply = (answer: PingAnswer): boolean => answer.roundTripMs !== undefined;

function describeReply(answer: PingAnswer): string {
  const took = answer.roundTripMs === undefined ? "no reply" : formatRoundTrip(answer.roundTripMs);
  return `${answer.peer}: ${took}, ${describeWay(answer)}`;
}

function summary(last: PingAnswer, sent: number, answered: number): string {
  const lost = answered === sent ? "" : `; ${sent - answered} of ${sent} tries got no reply`;
  return [
    `${last.peer} is ${phrase(last)}${lost}`,
    ...explainWay(last, SCREEN_COLUMNS - 2).map((line) => `  ${line}`),
  ].join("\n");
}

const phrase = (last: PingAnswer): string =>
  last.path === "searching" ? `not yet reached directly: ${describeWay(last)}` : describeWay(last);

function silence(peer: string, tries: number, last: PingAnswer | undefined): Failure {
  if (last === undefined) return new Failure("interrupted", `${peer} was not asked`);
  const why = last.why === undefined ? describeWay(last) : last.why.words;
  return new Failure("peer-silent", `${peer} gave no reply in ${tries} tries: ${why}`, {
    advice:
      last.why?.help ??
      "exitnode status      (whether it is online)\nexitnode netcheck    (what stands here in the way)",
  });
}
