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
/** It has to be seen again first: one that is preferred is asked every 5 s. */
const SEEN_MS = 10_000;
const EVERY_MS = 200;

/** Says whom it hears from. */
const WHOAMI = `const s = require("node:dgram").createSocket("udp4");
s.on("message", (m, { address, port }) => s.send(address, port, address));
s.bind(7000, process.argv[1], () => console.log("ready"));`;
/** Asks that every EVERY_MS, and prints what it is told. */
const ASKER = `const s = require("node:dgram").createSocket("udp4");
s.on("message", (m) => console.log(String(m)));
s.on("error", () => undefined);
setInterval(() => s.send("?", 7000, process.argv[1], () => undefined), ${EVERY_MS});`;
const ECHO = `require("node:net").createServer((c) => c.pipe(c)).listen(7001, "0.0.0.0", () => console.log("ready"));`;
/** One TCP connection: a number every EVERY_MS; prints each that comes back, and the end. */
const SESSION = `const c = require("node:net").connect(7001, process.argv[1]);
let n = 0;
c.on("connect", () => setInterval(() => c.write(\`\${n++}\\n\`), ${EVERY_MS}));
require("node:readline").createInterface({ input: c }).on("line", (line) => console.log(line));
c.on("error", (e) => console.log(e.code)).on("close", () => console.log("closed"));`;

describe("with home,cabin", () => {
  const world = new PathsWorld("exn-ag-", "198.51.100", "stand-in", 4);
  const children: ChildProcess[] = [];
  let laptop: PlacedAgent;
  let home: PlacedAgent;
  const startHome = () => world.agent("b", "home", { interface: "exnagb" });
  const exit = async () => (await laptop.status()).exit;
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
    await laptop.ask({ do: "use", exit: "home", others: ["cabin"] });
    await until("home is used", async () => (await exit())?.state === "active");
    const desk = (await laptop.peer("desk"))?.addresses[0] ?? "";
    await until("desk answers", () => pings(laptop.place, desk, "-W", "1"));
    const session = run(laptop.place, SESSION, desk);
    const seen = run(laptop.place, ASKER, MIDDLES[1]);
    await session.heard(10);
    await seen.heard(10);
    assert.deepEqual([...new Set(seen.lines)], [world.publicOf("b")]);

    await home.kill();
    const lostMs = await until("cabin is used", () => seen.lines.includes(world.publicOf("c")), LOST_MS);
    t.diagnostic(`by cabin after ${Math.round(lostMs)} ms`);
    assert.equal((await exit())?.name, "cabin");

    home = await startHome();
    const before = seen.lines.length;
    const backMs = await until("home is used", async () => (await exit())?.name === "home", HOLD_MS + SEEN_MS);
    t.diagnostic(`home again after ${Math.round(backMs)} ms`);
    assert.ok(backMs > HOLD_MS - 1_000, "not before it has answered for a minute");
    await until("by home", () => seen.lines.at(-1) === world.publicOf("b"));
    const answers = seen.lines.length - before;
    const asked = (backMs / EVERY_MS) | 0;
    assert.ok(answers > 0.95 * asked, `${answers} of ${asked} answered meanwhile`);

    await session.heard(10);
    assert.deepEqual(
      session.lines,
      session.lines.map((_, i) => `${i}`),
    );
    t.diagnostic(`${session.lines.length} answers in the mesh, ${session.silenceMs} ms apart at most`);
    assert.ok(session.silenceMs < 1_500, `silent for ${session.silenceMs} ms`);
  });
});

/** A script in a place, what it says and when. */
class Program {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  silenceMs = 0;
  #at: number | undefined;

  constructor({ name }: Place, script: string, args: readonly string[]) {
    const argv = ["netns", "exec", name, process.execPath, "-e", script, ...args];
    const child = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: child.stdout }).on("line", (line) => {
      const now = performance.now();
      this.silenceMs = Math.round(Math.max(this.silenceMs, now - (this.#at ?? now)));
      this.#at = now;
      this.lines.push(line);
    });
    this.child = child;
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
