import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Place } from "../engine/places.js";

/** What became of the pings that were sent meanwhile: how many came back, and the numbers of those that never did. */
export type Pinged = { readonly came: number; readonly lost: readonly number[] };

const DEADLINE_S = "300";

/** Pings before, while and after the work is done, three answers each before and after. */
export async function lostWhile(
  place: Place,
  to: string,
  everySeconds: string,
  work: () => Promise<void>,
): Promise<Pinged> {
  const argv = ["netns", "exec", place.name, "ping", "-n", "-i", everySeconds, "-W", "5", "-w", DEADLINE_S, to];
  const ping = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(ping, "close");
  const came = new Set<number>();
  let more: (() => void) | undefined;
  createInterface({ input: ping.stdout }).on("line", (line) => {
    const number = Number(/icmp_seq=(\d+) /.exec(line)?.[1] ?? 0);
    if (number === 0) return;
    came.add(number);
    more?.();
  });
  const answers = async (count: number): Promise<void> => {
    const until = came.size + count;
    while (came.size < until) {
      const next = new Promise<void>((resolve) => {
        more = resolve;
      });
      await Promise.race([next, closed]);
      assert.ok(ping.exitCode === null, `${came.size} answers came, and ping has ended`);
    }
  };
  try {
    await answers(3);
    await work();
    await answers(3);
  } finally {
    ping.kill("SIGKILL");
    await closed;
  }
  const last = Math.max(...came);
  const lost = Array.from({ length: last }, (_, i) => i + 1).filter((number) => !came.has(number));
  return { came: came.size, lost };
}
