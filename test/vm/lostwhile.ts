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
  return pinged(place, to, everySeconds, [], async (answers) => {
    await answers(3);
    await work();
    await answers(3);
  });
}

/** The numbers of those that were never answered, until so many were: `ping -c` waits for the last one no longer than for the next. */
export async function lostOf(
  place: Place,
  to: string,
  count: number,
  ...options: string[]
): Promise<readonly number[]> {
  return (await pinged(place, to, "0.1", options, (answers) => answers(count))).lost;
}

async function pinged(
  place: Place,
  to: string,
  everySeconds: string,
  options: readonly string[],
  work: (answers: (count: number) => Promise<void>) => Promise<void>,
): Promise<Pinged> {
  const argv = ["netns", "exec", place.name, "ping", "-n", "-i", everySeconds, "-w", DEADLINE_S, ...options, to];
  const ping = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(ping, "close");
  const came = new Set<number>();
  let more: (() => void) | undefined;
  createInterface({ input: ping.stdout }).on("line", (line) => {
    const number = Number(/icmp_seq=(\d+) ttl/.exec(line)?.[1] ?? 0);
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
    await work(answers);
  } finally {
    ping.kill("SIGKILL");
    await closed;
  }
  const last = Math.max(...came);
  const lost = Array.from({ length: last }, (_, i) => i + 1).filter((number) => !came.has(number));
  return { came: came.size, lost };
}
