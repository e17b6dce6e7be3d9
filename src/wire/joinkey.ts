import * as z from "zod";
import { concat, fromBase64Url, fromUtf8, toBase64Url, utf8 } from "../kit/bytes.js";
import { hash } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { lockRecord, readRecord } from "./lock.js";
import { key } from "./schema.js";

/**
 * A join key: `exnkey1-` and base64url of
 *
 *   body       JSON  {"c": coordinator's public key, "u": [urls], "s": secret, "l": record of the device lock}
 *   checksum   4 bytes, the first of BLAKE2s(body): a key that lost a character says so before any network is touched
 *
 * Whoever holds it trusts the coordinator by its key, not by a certificate: nothing is trusted on first use. With "l",
 * which the coordinator has no part in, that holds for the trusted devices too: the device begins with that record. It
 * is a whole one, not its hash, so that any later record, and the secret that ends the lock, can be checked against it
 * however many the coordinator has forgotten in between.
 */
export const JOIN_KEY_PREFIX = "exnkey1-";
/** Some 280 without a record, 530 with one trusted device, 8,000 with the fullest record that there may be. */
export const JOIN_KEY_CHARACTERS_MAX = 10_240;
const CHECKSUM_BYTES = 4;

const body = z.strictObject({
  c: key,
  u: z
    .array(z.url({ protocol: /^https$/ }))
    .min(1)
    .max(8),
  s: z.string().min(16).max(128),
  l: lockRecord.refine((record) => readRecord(record) !== undefined).optional(),
});

export type JoinKey = {
  readonly coordinatorKey: z.infer<typeof key>;
  readonly urls: readonly string[];
  readonly secret: string;
  /** The trusted devices, as whoever made the key has verified them: a record, base64. */
  readonly record?: string;
};

export function encodeJoinKey({ coordinatorKey, urls, secret, record }: JoinKey): string {
  const bytes = utf8(JSON.stringify({ c: coordinatorKey, u: urls, s: secret, l: record }));
  return JOIN_KEY_PREFIX + toBase64Url(concat(bytes, hash(bytes).subarray(0, CHECKSUM_BYTES)));
}

export function decodeJoinKey(text: string): JoinKey {
  const trimmed = text.trim();
  if (!trimmed.startsWith(JOIN_KEY_PREFIX) || trimmed.length > JOIN_KEY_CHARACTERS_MAX)
    throw invalid(`a join key starts with ${JOIN_KEY_PREFIX} and has at most ${JOIN_KEY_CHARACTERS_MAX} characters`);
  const bytes = fromBase64Url(trimmed.slice(JOIN_KEY_PREFIX.length));
  if (bytes === undefined || bytes.length <= CHECKSUM_BYTES) throw invalid("characters of it are missing or wrong");
  const content = bytes.subarray(0, -CHECKSUM_BYTES);
  const sum = bytes.subarray(-CHECKSUM_BYTES);
  if (
    !hash(content)
      .subarray(0, CHECKSUM_BYTES)
      .every((byte, i) => byte === sum[i])
  )
    throw invalid("characters of it are missing or wrong");
  const parsed = body.safeParse(tryJson(fromUtf8(content) ?? ""));
  if (!parsed.success) throw invalid("it was made by another version");
  const { c: coordinatorKey, u: urls, s: secret, l: record } = parsed.data;
  return { coordinatorKey, urls, secret, ...(record === undefined ? {} : { record }) };
}

function invalid(reason: string): Failure {
  return new Failure("join-key-invalid", `this is not a whole join key: ${reason}`, {
    advice: "make a new one where the coordinator is administered: exitnode key create",
  });
}
