import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { HOLD_MS } from "../../src/agent/exits/failover.js";
import { until } from "../engine/patience.js";
import { must, type Place, pings, stop } from "../engine/places.js";
import { MIDDLES, PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** Two exit nodes, and the power fails where the first one is: what a person behind a third router notices. */

const LOST_MS = 10_000;
const EVERY_MS = 200;
/** A machine so busy that home falls silent once more has it begin its minute anew; failover.test.ts counts the seconds. */
const BACK_MS = 3 * HOLD_MS;
/** So often a switch may wait for the machine to be set up: for one that is under way, its own, and one that was slower. */
const SETTINGS = 3;
/** What a session would be silent for if WireGuard had to begin anew, which tries again after 5 s. */
const SILENCE_MS = 3_000;

/** Says whom it hears from, and what. */
const WHOAMI = `const s = require("node:dgram").createSocket("udp4");
s.on("message", (m, { address, port }) => s.send(address + " " + m, port, address));
s.bind(7000, process.argv[1], () => console.log("ready"));`;
/** Asks that every EVERY_MS, with a number, and prints what it is told. */
const ASKER = `const s = require("node:dgram").createSocket("udp4");
let n = 0;
s.on("message", (m) => console.log(String(m)));
s.on("error", () => undefined);
setInterval(() => s.send(String(n++), 7000, process.argv[1], () => undefined), ${EVERY_MS});`;
const ECHO = `require("node:net").createServer((c) => c.pipe(c)).listen(7001, "0.0.0.0", () => console.log("ready"));`;
/** One TCP connection: a number every EVERY_MS; prints each that comes back and how long it was away, and the end. */
const SESSION = `const c = require("node:net").connect(7001, process.argv[1]);
const sent = [];
c.on("connect", () => setInterval(() => { c.write(\`\${sent.length}\\n\`); sent.push(performance.now()); }, ${EVERY_MS}));
require("node:readline").createInterface({ input: c })
  .on("line", (line) => console.log(line, Math.round(performance.now() - sent[line])));
c.on("error", (e) => console.log(e.code)).on("close", () => console.log("closed"));`;

describe("with home,cabin", () => {
  const world = new PathsWorld("exn-ag-", "198.51.100", "stand-in", 4);
  const children: ChildProcess[] = [];
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  const startHome = () => world.agent("b", "home", { interface: "exnagb" });
  const exit = async () => (await laptop.status()).exit;
  /** How long it takes now to set the laptop up as it is told. */
  const settingMs = async (): Promise<number> => {
    const from = performance.now();
    await laptop.ask({ do: "use", exit: "home", others: ["cabin"] });
    return performance.now() - from;
  };
  const run = (place: Place, script: string, ...args: string[]): Program => {
    const program = new Program(place, script, args);
    children.push(program.child);
    return program;
  };

  before(async () => {
    await world.open();
    for (const { home: place } of [world.sides.b, world.sides.c]) {
      await must(place, "sysctl -qw net.ipv4.ip_forward=1");
      await must(place, "nft -f -", MASQUERADE);
    }
    [laptop, home] = await Promise.all([
      world.agent("a", "laptop", { interface: "exnaga" }),
      startHome(),
      world.agent("c", "cabin", { interface: "exnagc" }),
      world.agent("d", "desk", { interface: "exnagd" }),
    ]);
    await until("all are there", async () => (await laptop.status()).peers.filter((one) => one.online).length === 3);
  });
  after(async () => {
    for (const child of children) await stop(child);
    await world.close();
  });

  test("home lost, everything goes by cabin within 10 s, and by home 60 s after it is back; a session in the mesh goes on", async (t) => {
    await run(world.middle, WHOAMI, MIDDLES[1]).heard(1);
    await run(world.sides.d.home, ECHO).heard(1);
    const setting = await settingMs();
    await until("home is used", async () => (await exit())?.state === "active");
    const desk = (await laptop.peer("desk"))?.addresses[0] ?? "";
    // Before that its packets change from one way to another, for which they are late as well.
    await until("desk answers directly", async () => {
      return (await pings(laptop.place, desk, "-W", "1")) && (await laptop.peer("desk"))?.path === "direct";
    });
    const session = run(laptop.place, SESSION, desk);
    const seen = run(laptop.place, ASKER, MIDDLES[1]);
    await session.heard(10);
    await seen.heard(10);
    assert.deepEqual([...new Set(seen.words(0))], [world.publicOf("b")]);

    await home.kill();
    const lostMs = await until("by cabin", () => seen.words(0).includes(world.publicOf("c")));
    assert.equal((await exit())?.name, "cabin");
    // On a machine that does nothing else it is a tenth of a second.
    const slackMs = SETTINGS * Math.max(setting, await settingMs());
    t.diagnostic(`by cabin after ${Math.round(lostMs)} ms, with ${Math.round(slackMs)} ms to wait for the machine`);
    assert.ok(lostMs < LOST_MS + slackMs, `lost for ${lostMs} ms`);

    const before = seen.lines.length;
    const startedAt = performance.now();
    home = await startHome();
    const seenHome = async () => (await exit())?.exits?.find(({ name }) => name === "home")?.state === "answers";
    await until("home answers", seenHome);
    const isHome = () => seen.words(0).at(-1) === world.publicOf("b");
    const backMs = await until("by home", isHome, BACK_MS);
    t.diagnostic(`home again ${Math.round(backMs)} ms after it answered`);
    assert.ok(performance.now() - startedAt > HOLD_MS, "not before it has answered for a minute");
    const numbers = seen.words(1).slice(before).map(Number);
    const asked = (numbers.at(-1) ?? 0) - (numbers[0] ?? 0) + 1;
    assert.ok(numbers.length > 0.95 * asked, `${numbers.length} of ${asked} answered meanwhile`);

    await session.heard(10);
    assert.deepEqual(
      session.words(0),
      session.lines.map((_, i) => `${i}`),
    );
    const silenceMs = Math.max(...session.words(1).map(Number));
    t.diagnostic(`${session.lines.length} answers in the mesh, within ${silenceMs} ms`);
    assert.ok(silenceMs < SILENCE_MS + slackMs, `silent for ${silenceMs} ms`);
  });
});

/** A script in a place, and what it says. */
class Program {
  readonly child: ChildProcess;
  readonly lines: string[] = [];

  constructor({ name }: Place, script: string, args: readonly string[]) {
    const argv = ["netns", "exec", name, process.execPath, "-e", script, ...args];
    const child = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: child.stdout }).on("line", (line) => this.lines.push(line));
    this.child = child;
  }

  /** Of each line the first word, or the next. */
  words(at: number): string[] {
    return this.lines.map((line) => line.split(" ")[at] ?? "");
  }

  /** Until it has said so many more lines. */
  async heard(count: number): Promise<void> {
    const enough = this.lines.length + count;
    await until(`${count} more lines`, () => this.lines.length >= enough);
  }
}

const MASQUERADE = `table ip exits {}
delete table ip exits
table ip exits {
  chain post { type nat hook postrouting priority srcnat; oifname "wire" masquerade; }
}
`;
