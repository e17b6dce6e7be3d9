import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import type { Place } from "./places.js";

/** iperf3 from one place to another: what arrived, counted by the receiver. */
export type TransferOptions = {
  readonly megabytes: number;
  /** Megabits a second; as fast as it goes without. */
  readonly rate?: number;
  /** Datagrams of so many bytes instead of a stream. */
  readonly datagramBytes?: number;
  readonly streams?: number;
};
export type Transferred = { readonly bytes: number; readonly lostShare: number };

const DEADLINE_S = "120";

type Report = {
  readonly error?: string;
  readonly end?: {
    readonly sum_received?: { readonly bytes: number };
    readonly sum?: { readonly bytes: number; readonly lost_percent?: number };
  };
};

export async function transfer(
  from: Place,
  to: Place,
  address: string,
  options: TransferOptions,
): Promise<Transferred> {
  const server = spawn("ip", ["netns", "exec", to.name, "timeout", DEADLINE_S, "iperf3", "-s", "-1", "--forceflush"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(server, "exit");
  try {
    const lines = createInterface({ input: server.stdout });
    const listening = new Promise<void>((resolve) =>
      lines.on("line", (line) => line.includes("Server listening") && resolve()),
    );
    const gone = ended.then(([code]) => assert.fail(`iperf3 exited ${code} before it listened`));
    await Promise.race([listening, gone]);
    const words = ["-c", address, "-J", "-n", `${options.megabytes}M`, "-b", `${options.rate ?? 0}M`];
    if (options.datagramBytes !== undefined) words.push("-u", "-l", String(options.datagramBytes));
    // What the sender's buffer holds at the end is cut off: let it be little.
    else words.push("-w", "256K");
    if (options.streams !== undefined) words.push("-P", String(options.streams));
    const client = spawn("ip", ["netns", "exec", from.name, "timeout", DEADLINE_S, "iperf3", ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const report = JSON.parse(await text(client.stdout)) as Report;
    assert.equal(report.error, undefined);
    const sum = options.datagramBytes === undefined ? report.end?.sum_received : report.end?.sum;
    return { bytes: sum?.bytes ?? 0, lostShare: (report.end?.sum?.lost_percent ?? 0) / 100 };
  } finally {
    server.kill();
    await ended;
  }
}
