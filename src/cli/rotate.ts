import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { askRotate, statusOfAgent } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";

/** The coordinator has to hear of the new key. */
const ROTATED_WITHIN_MS: Millis = 15 * SECOND;
const POLL_MS: Millis = 100;

export async function rotate({ parts, signal, options }: Call): Promise<Outcome> {
  const before = await statusOfAgent(parts.paths);
  // Alone, it would cut itself off: only the coordinator can tell the peers.
  if (!before.coordinator.connected)
    throw new Failure("coordinator-unreachable", "the coordinator is not reached, and it has to tell the peers", {
      advice: "exitnode status",
    });
  const apps = before.peers.filter(({ app }) => app === true).map(({ name }) => name);
  if (apps.length > 0 && options.yes !== true)
    throw new Failure("apps-cut-off", `a new key would cut off ${apps.join(", ")}: WireGuard apps know the old one`, {
      advice: "exitnode rotate --yes    (then, for each: exitnode device remove <device>, and add it again)",
    });
  await askRotate(parts.paths);
  const deadline = parts.clock.now() + ROTATED_WITHIN_MS;
  while (parts.clock.now() < deadline && !signal.aborted) {
    const { publicKey, name } = await statusOfAgent(parts.paths);
    if (publicKey !== undefined && publicKey !== before.publicKey)
      return { value: { name, publicKey }, text: `${name} has a new WireGuard key: ${publicKey}` };
    await parts.clock.sleep(POLL_MS, signal).catch(() => undefined);
  }
  throw new Failure(
    "key-not-rotated",
    "the coordinator has not taken the new key yet; the old one is in use until it does",
    {
      advice: "exitnode status",
    },
  );
}
