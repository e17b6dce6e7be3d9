import * as z from "zod";
import { utf8 } from "../kit/bytes.js";
import { asFailure, Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { type Millis, SECOND } from "../kit/time.js";
import { openHttps } from "../sys/https.js";
import { API_PREFIX } from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import type { Call } from "./command.js";
import { type Config, readConfig, readCredentials } from "./config.js";
import { problemFailure } from "./problem.js";

/** This machine as an administrator of the coordinator. */

type Reachable = NonNullable<Config["coordinator"]>;

/** From the first packet to the certificate: what a URL gets before the next one is tried. */
const DIAL_TIMEOUT_MS: Millis = 4 * SECOND;
/** A revocation waits for its peers; everything else is done in no time. */
const ANSWER_TIMEOUT_MS: Millis = 15 * SECOND;

/** Calls the API of the coordinator in the config; `undefined` is the answer without a body. */
export async function callCoordinator<T>(
  call: Call,
  schema: z.ZodType<T>,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const { files, paths, env } = call.parts;
  const { coordinator } = await readConfig(files, paths.config);
  if (coordinator === undefined)
    throw new Failure("coordinator-unset", "the config names no coordinator", {
      advice: "exitnode create --host <name>    (makes an exit node, and a coordinator with it)",
    });
  const token = env.EXITNODE_ADMIN_TOKEN ?? (await readCredentials(files, paths.config)).coordinator?.adminToken;
  if (token === undefined)
    throw new Failure("token-unset", "the credentials hold no admin token for the coordinator", {
      advice: `put it into ${paths.config}/credentials.yaml under coordinator.adminToken, or into EXITNODE_ADMIN_TOKEN`,
    });
  const https = openHttps();
  try {
    const url = await firstThatAnswers(coordinator, (one) =>
      https.peerFingerprint(one, { deadlineMs: DIAL_TIMEOUT_MS, signal: call.signal }),
    );
    const reply = await https.request({
      method,
      url: new URL(`${API_PREFIX}${path}`, url).href,
      fingerprint: coordinator.tlsFingerprint,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: [utf8(JSON.stringify(body))] }),
      deadlineMs: ANSWER_TIMEOUT_MS,
      signal: call.signal,
    });
    if (reply.status >= 400) throw problemFailure(reply.status, reply.body);
    return parseWith(schema, tryJson(reply.body), "the coordinator's answer", "coordinator-strange");
  } finally {
    https.close();
  }
}

/** Far more than a coordinator has of anything. */
const LIST_MAX = 100_000;

/** A whole list, page after page; `name` is the field that holds it. */
export async function listAll<T>(call: Call, path: string, name: string, entry: z.ZodType<T>): Promise<T[]> {
  const all: T[] = [];
  const entries = z.array(entry);
  for (let query = ""; all.length < LIST_MAX; ) {
    const page = await callCoordinator(call, listPage, "GET", `${path}${query}`);
    all.push(...parseWith(entries, page[name], "the coordinator's answer", "coordinator-strange"));
    if (page.next === undefined) break;
    query = `?cursor=${encodeURIComponent(page.next)}`;
  }
  return all;
}

const listPage = z.looseObject({ next: z.string().optional() });

/**
 * The first URL, in the config's order, behind which the pinned certificate is. Another certificate is passed over:
 * away from home, the coordinator's LAN address may be somebody else's machine. No token has been sent by then.
 */
async function firstThatAnswers(
  { adminUrls, tlsFingerprint }: Reachable,
  fingerprintOf: (url: string) => Promise<string>,
): Promise<string> {
  const reasons: string[] = [];
  // All are dialled at once: a dead LAN address then costs nothing but patience with the better ones.
  const dialled = adminUrls.map((url) =>
    fingerprintOf(url).then(
      (seen) => (seen === tlsFingerprint ? undefined : `${url} shows another certificate than the pinned one`),
      (error: unknown) => asFailure(error).message,
    ),
  );
  for (const [i, url] of adminUrls.entries()) {
    const reason = await dialled[i];
    if (reason === undefined) return url;
    reasons.push(reason);
  }
  throw new Failure("coordinator-unreachable", `the coordinator does not answer: ${reasons.join("; ")}`, {
    advice:
      "exitnode doctor                (looks for the reason, also inside the container that it runs in)\n" +
      "exitnode coordinator forget    (if it is gone for good)",
  });
}
