import { isPrivate } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import { openHttps } from "../sys/https.js";
import { lookUp } from "../sys/resolve.js";

/** What does not answer within it is not seen to lead anywhere: many home routers turn no packet around. */
const ANSWER_MS: Millis = 3 * SECOND;

/**
 * Whether a public address leads to the coordinator with that certificate, tried from this machine. A run looks many
 * times, and asks once. A name that means a private address here shows nothing of where it leads from outside.
 */
export function leadsTo(
  clock: Clock,
  signal: AbortSignal,
): (address: string, tlsFingerprint: string) => Promise<boolean> {
  const asked = new Map<string, Promise<boolean>>();
  const ask = async (address: string, tlsFingerprint: string): Promise<boolean> => {
    const ip = await lookUp(address);
    if (isPrivate(ip)) return false;
    const url = `https://${ip.includes(":") ? `[${ip}]` : ip}:443`;
    return (await openHttps().peerFingerprint(url, { deadlineMs: ANSWER_MS, signal })) === tlsFingerprint;
  };
  const inTime = async (address: string, tlsFingerprint: string): Promise<boolean> => {
    const answered = new AbortController();
    const late = clock.sleep(ANSWER_MS, AbortSignal.any([signal, answered.signal])).then(() => false);
    try {
      return await Promise.race([ask(address, tlsFingerprint), late]);
    } catch {
      return false;
    } finally {
      answered.abort();
    }
  };
  return (address, tlsFingerprint) => {
    const answer = asked.get(address) ?? inTime(address, tlsFingerprint);
    asked.set(address, answer);
    return answer;
  };
}
