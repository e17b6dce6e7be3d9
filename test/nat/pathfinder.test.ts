import assert from "node:assert/strict";
import { test } from "node:test";
import { formatEndpoint } from "../../src/kit/endpoint.js";
import { parseIp } from "../../src/kit/ip.js";
import { BIRTHDAY_SOCKETS } from "../../src/nat/birthday.js";
import { type Path, whyRelayed } from "../../src/nat/path.js";
import { Network, Router } from "./internet.js";
import type { LabAgent } from "./labagent.js";
import { Lab, SITUATIONS, type Situation, type Stun } from "./situations.js";

/** Two agents in the simulated Internet: every pair of situations, and what happens when the world changes. */

const SEEDS = Array.from({ length: 10 }, (_, i) => i + 1);
const HAS_SIX: readonly Situation[] = ["open", "ordinary", "IPv6 only"];

type Expectation = { readonly kind: "direct" | "relayed"; readonly words: RegExp; readonly withinMs: number };

function expectation(left: Situation, right: Situation): Expectation {
  const pair = [left, right];
  if (pair.includes("UDP blocked")) return { kind: "relayed", words: /UDP is blocked (here|at the peer)/, withinMs: 0 };
  if (pair.includes("IPv6 only") && !pair.every((one) => HAS_SIX.includes(one)))
    return { kind: "relayed", words: /IPv4 only, the other IPv6 only/, withinMs: 0 };
  if (left === "symmetric" && right === "symmetric")
    return { kind: "relayed", words: /both NATs change the port per destination/, withinMs: 0 };
  // Ports have to be guessed where the other side lets in only whom it has sent to.
  const isGuessed = pair.includes("symmetric") && !pair.includes("open") && !pair.includes("endpoint-independent");
  return { kind: "direct", words: /^direct to /, withinMs: isGuessed ? 20_000 : 2_000 };
}

const wordsOf = (path: Path): string =>
  path.kind === "relayed"
    ? whyRelayed(path.why).words
    : path.kind === "direct"
      ? `direct to ${formatEndpoint(path.endpoint)}`
      : "still looking";

const isDirect = (lab: Lab): boolean => lab.left.path.path.kind === "direct" && lab.right.path.path.kind === "direct";

/** Until both are direct; the moment, or undefined when they were not by then. */
function runUntilDirect(lab: Lab, limit: number): number | undefined {
  for (const end = lab.internet.now + limit; lab.internet.now < end; lab.run(50))
    if (isDirect(lab)) return lab.internet.now;
  return isDirect(lab) ? lab.internet.now : undefined;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Infinity;

for (const [i, left] of SITUATIONS.entries())
  for (const right of SITUATIONS.slice(i)) {
    const want = expectation(left, right);
    test(`${left} and ${right}: ${want.kind}, with data within the first second`, () => {
      const times = SEEDS.map((seed) => {
        const lab = new Lab(left, right, seed).start();
        const directAt = runUntilDirect(lab, want.kind === "direct" ? want.withinMs : 6_000);
        lab.run(1_000);
        for (const agent of [lab.left, lab.right]) {
          assert.ok((agent.received[0]?.at ?? Infinity) <= 1_000, `${agent.id} waited for its first data`);
          if (want.kind === "direct" && directAt === undefined) continue;
          assert.equal(agent.path.path.kind, want.kind);
          assert.match(wordsOf(agent.path.path), want.words);
        }
        return directAt ?? Infinity;
      });
      if (want.kind === "relayed") assert.ok(times.every((at) => at === Infinity));
      else {
        assert.ok(median(times) <= want.withinMs, `median ${median(times)} ms`);
        assert.ok(times.filter((at) => at <= want.withinMs).length >= 9, times.join(" "));
      }
    });
  }

test("two ordinary routers on lines that lose a tenth are direct within 2 s median", () => {
  const times = SEEDS.map(
    (seed) => runUntilDirect(new Lab("IPv4 only", "IPv4 only", seed, 0.1).start(), 20_000) ?? Infinity,
  );
  assert.ok(median(times) <= 2_000 && Math.max(...times) < 20_000, times.join(" "));
});

test("a line that loses 3 of 100 datagrams does not throw a direct path back on the relay within 10 minutes", () => {
  for (const seed of SEEDS.slice(0, 3)) {
    const lab = new Lab("IPv4 only", "IPv4 only", seed, 0.03).start();
    runUntilDirect(lab, 20_000);
    const before = lab.left.routes.length;
    lab.run(600_000);
    assert.deepEqual(
      lab.left.routes.slice(before).filter(({ kind }) => kind === "relay"),
      [],
    );
  }
});

test("a NAT that counts its ports is met by prediction, without a birthday attempt", () => {
  for (const seed of SEEDS) {
    const lab = new Lab("sequential", "IPv4 only", seed).start();
    const directAt = runUntilDirect(lab, 2_000);
    assert.ok(directAt !== undefined, `seed ${seed}`);
    assert.equal(lab.left.birthday.opened, 0);
  }
});

test("ports are guessed with 256 sockets, which are closed but for those the peer has reached", () => {
  const lab = new Lab("symmetric", "IPv4 only", 3).start();
  assert.ok(runUntilDirect(lab, 20_000) !== undefined);
  lab.run(5_000);
  assert.equal(lab.left.birthday.opened, BIRTHDAY_SOCKETS);
  assert.ok(lab.left.host.openPorts <= 1 + 4, `${lab.left.host.openPorts} still open`);
  assert.ok(isDirect(lab));
});

for (const [left, right] of [
  ["symmetric", "IPv4 only"],
  ["IPv4 only", "symmetric"],
] as const)
  test(`${left} finds ${right}, who had begun to look before it was there, by guessing in its first search`, () => {
    const times = SEEDS.map((seed) => {
      const lab = new Lab(left, right, seed);
      lab.right.start(lab.left);
      lab.right.talk(true);
      lab.run(500 + 200 * seed);
      lab.left.start(lab.right);
      lab.left.talk(true);
      const startedAt = lab.internet.now;
      return (runUntilDirect(lab, 20_000) ?? Infinity) - startedAt;
    });
    assert.ok(median(times) <= 5_000, times.join(" "));
    assert.ok(times.filter((time) => time <= 8_000).length >= 9, times.join(" "));
  });

test("one relay that answers STUN on two ports is enough for ports to be guessed, and on one port is not", () => {
  const metWith = (stun: Stun): boolean =>
    runUntilDirect(new Lab("symmetric", "IPv4 only", 3, 0, stun).start(), 20_000) !== undefined;
  assert.deepEqual([metWith("two ports"), metWith("one port")], [true, false]);
});

test("that nobody answers is told after two searches, until then it is still looked; what is known is told after one", () => {
  const silent = new Lab("IPv4 only", "IPv4 only", 1).start();
  const { router } = silent.places.right;
  assert.ok(router !== undefined);
  silent.run(300);
  router.isDead = true;
  const told: string[] = [];
  for (let i = 0; i < 44; i++) told.push(wordsOf(silent.run(250).left.path.path));
  const looking = told.filter((words) => words === "still looking").length;
  assert.ok(looking >= 36 && looking < 44, `${looking * 250} ms`);
  assert.match(told.at(-1) ?? "", /^no answer from /);
  assert.match(wordsOf(new Lab("symmetric", "symmetric", 1).start().run(4_000).left.path.path), /^both NATs/);
});

test("guessing that cannot succeed ends after 20 s with at most 100 probes a second, and pauses", () => {
  const lab = new Lab("symmetric", "IPv4 only", 4);
  // The right side's router hides that nothing comes in at all.
  lab.start().run(1_000);
  const { router } = lab.places.right;
  assert.ok(router !== undefined);
  router.isDead = true;
  lab.run(60_000);
  const sent = lab.right.path.counts.pingsSent;
  assert.ok(sent > 1_500 && sent < 2_200, `${sent} pings`);
  assert.equal(lab.left.host.openPorts, 1);
  lab.run(120_000);
  assert.ok(lab.right.path.counts.pingsSent - sent < 200, "it went on guessing during the pause");
  assert.match(wordsOf(lab.right.path.path), /^no answer from /);
});

test("a direct path that dies without a word costs at most 7 s, and is used again within 60 s of its return", () => {
  for (const seed of SEEDS) {
    const lab = new Lab("IPv4 only", "IPv4 only", seed).start();
    assert.ok(runUntilDirect(lab, 5_000) !== undefined);
    lab.run(seed * 731);
    const { router } = lab.places.right;
    assert.ok(router !== undefined);
    router.isDead = true;
    const diedAt = lab.internet.now;
    lab.run(7_000);
    for (const agent of [lab.left, lab.right]) {
      assert.equal(agent.path.path.kind, "relayed", `${agent.id}, seed ${seed}`);
      assert.ok(longestGap(agent, diedAt - 500, lab.internet.now) <= 7_000);
    }
    lab.run(seed * 17_000);
    router.isDead = false;
    const returnedAt = lab.internet.now;
    const directAt = runUntilDirect(lab, 60_000);
    assert.ok(directAt !== undefined, `seed ${seed}: not direct 60 s after ${returnedAt}`);
  }
});

for (const awayMs of [12_000, 300_000])
  test(`an agent that is away for ${awayMs / 1_000} s while WireGuard is not costs the other neither a datagram nor the direct path`, () => {
    for (const seed of SEEDS) {
      const lab = new Lab("IPv4 only", "IPv4 only", seed).start();
      assert.ok(runUntilDirect(lab, 5_000) !== undefined);
      lab.run(2_000 + seed * 731);
      const before = lab.left.routes.length;
      const leftAt = lab.internet.now;
      lab.right.leave();
      lab.run(awayMs);
      assert.deepEqual([lab.left.path.path.kind, lab.left.routes.slice(before)], ["direct", []], `seed ${seed}`);
      for (const agent of [lab.left, lab.right])
        assert.ok(longestGap(agent, leftAt, lab.internet.now) <= 200, `${agent.id}, seed ${seed}`);
      lab.right.comeBack();
      assert.ok(runUntilDirect(lab, 5_000) !== undefined);
      assert.ok(longestGap(lab.left, leftAt, lab.internet.now) <= 500);
    }
  });

test("traffic that begins again while the other's agent is away arrives at once, and the path is direct again", () => {
  for (const seed of SEEDS) {
    const lab = new Lab("IPv4 only", "IPv4 only", seed).start();
    lab.run(5_000 + seed * 731);
    for (const agent of [lab.left, lab.right]) agent.talk(false);
    lab.right.leave();
    lab.run(12_000);
    assert.notEqual(lab.left.path.path.kind, "direct", "there is no proof of it");
    for (const agent of [lab.left, lab.right]) agent.talk(true);
    const beganAt = lab.internet.now;
    lab.run(2_500);
    for (const agent of [lab.left, lab.right]) assert.ok(longestGap(agent, beganAt, lab.internet.now) <= 200);
    assert.equal(lab.left.path.path.kind, "direct", `seed ${seed}`);
  }
});

test("a path that carries one way only is left by both within 7 s, though WireGuard still hears the peer on it", () => {
  for (const seed of SEEDS) {
    const lab = new Lab("open", "IPv4 only", seed).start();
    assert.ok(runUntilDirect(lab, 5_000) !== undefined);
    lab.run(2_000 + seed * 731);
    const { router } = lab.places.right;
    assert.ok(router !== undefined);
    router.isDeaf = true;
    const deafAt = lab.internet.now;
    lab.run(7_000);
    for (const agent of [lab.left, lab.right]) {
      assert.ok(longestGap(agent, deafAt, lab.internet.now) <= 7_000);
      assert.notEqual(agent.path.route.kind, "direct", `${agent.id}, seed ${seed}`);
    }
    lab.run(7_000);
    assert.deepEqual([lab.left.path.path.kind, lab.right.path.path.kind], ["relayed", "relayed"]);
    assert.ok(longestGap(lab.right, lab.internet.now - 5_000, lab.internet.now) <= 300);
  }
});

test("after a router's reboot traffic flows within 7 s and the path is direct again", () => {
  const lab = new Lab("IPv4 only", "IPv4 only", 5).start();
  lab.run(10_000);
  lab.places.left.router?.reboot();
  const rebootedAt = lab.internet.now;
  lab.run(15_000);
  assert.ok(longestGap(lab.left, rebootedAt - 500, lab.internet.now) <= 7_000);
  assert.ok(isDirect(lab));
});

test("a laptop that moves to another network has traffic both ways within 3 s, and is direct again", () => {
  for (const seed of SEEDS)
    for (const to of ["IPv4 only", "symmetric", "UDP blocked"] as const) {
      const lab = new Lab("ordinary", "IPv4 only", seed).start();
      lab.run(5_000 + seed * 211);
      assert.ok(isDirect(lab));
      const { host } = lab.place(to, 7);
      const { network, addresses } = host;
      const movedAt = lab.internet.now;
      lab.left.moveTo(network, addresses);
      lab.run(3_000);
      for (const agent of [lab.left, lab.right]) {
        const next = agent.received.find(({ sentAt }) => sentAt > movedAt);
        assert.ok(next !== undefined, `${agent.id} hears nothing after the move to ${to}, seed ${seed}`);
      }
      if (to === "IPv4 only") assert.ok(runUntilDirect(lab, 5_000) !== undefined);
    }
});

test("a peer that moves is followed by the one that stayed, whose own path looked healthy", () => {
  for (const seed of SEEDS) {
    const lab = new Lab("open", "IPv4 only", seed).start();
    lab.run(5_000);
    const { network, addresses } = lab.place("IPv4 only", 8).host;
    lab.right.moveTo(network, addresses);
    const movedAt = lab.internet.now;
    lab.run(1_000);
    assert.ok(
      lab.right.received.some(({ sentAt }) => sentAt > movedAt),
      `seed ${seed}`,
    );
  }
});

test("two devices in one home talk within it, not through its router", () => {
  const lab = new Lab("IPv4 only", "open", 7);
  const { network } = lab.places.left.host;
  lab.right.host.moveTo(network, [parseIp("192.168.1.21")]);
  lab.start().run(3_000);
  assert.equal(wordsOf(lab.left.path.path), "direct to 192.168.1.21:51820");
});

for (const hairpin of [true, false])
  test(`two homes behind one carrier's NAT are ${hairpin ? "direct" : "relayed"} when it ${hairpin ? "turns" : "drops"} what is sent to itself`, () => {
    const lab = new Lab("IPv4 only", "IPv4 only", 11);
    const carrier = new Network(lab.internet);
    new Router(carrier, lab.core, parseIp("203.0.113.50"), { filtering: "endpoint-independent", hairpin });
    for (const [i, agent] of [lab.left, lab.right].entries()) {
      const home = new Network(lab.internet);
      new Router(home, carrier, parseIp(`100.64.0.${i + 1}`));
      agent.host.moveTo(home, [parseIp(`192.168.${i + 1}.20`)]);
    }
    lab.start().run(11_000);
    assert.equal(lab.left.path.path.kind, hairpin ? "direct" : "relayed");
  });

test("after a pause longer than the NATs remember, traffic is there at once and direct again within 15 s", () => {
  const lab = new Lab("IPv4 only", "double NAT", 12).start();
  lab.run(10_000);
  lab.left.talk(false);
  lab.right.talk(false);
  lab.run(600_000);
  const wokenAt = lab.internet.now;
  lab.left.talk(true);
  lab.right.talk(true);
  // An agent asks STUN anew when a session wakes, for it tells its peers only what is fresh.
  lab.left.stun();
  lab.right.stun();
  lab.run(1_000);
  for (const agent of [lab.left, lab.right]) assert.ok(longestGap(agent, wokenAt, lab.internet.now) <= 200);
  assert.ok(runUntilDirect(lab, 15_000) !== undefined);
  lab.run(10_000);
  assert.ok(isDirect(lab));
});

test("the path's MTU is found: 1500, and 1124 behind a narrow line", () => {
  for (const mtu of [1_500, 1_420, 1_124]) {
    const lab = new Lab("IPv4 only", "open", 8);
    lab.core.traits.mtu = mtu;
    lab.start().run(30_000);
    const { path } = lab.left.path;
    assert.ok(path.kind === "direct" && path.mtu !== undefined);
    assert.ok(path.mtu <= mtu && path.mtu > mtu - 4, `${path.mtu} of ${mtu}`);
  }
});

test("a session without traffic sends nothing after 45 s, and its first datagram goes both ways", () => {
  const lab = new Lab("IPv4 only", "IPv4 only", 9).start();
  lab.run(10_000);
  lab.left.talk(false);
  lab.right.talk(false);
  lab.run(50_000);
  const sent = [lab.left, lab.right].map(({ path }) => path.counts.pingsSent);
  lab.run(600_000);
  assert.deepEqual(
    [lab.left, lab.right].map(({ path }) => path.counts.pingsSent),
    sent,
  );
  assert.equal(lab.left.path.deadline, undefined);
  assert.equal(lab.left.path.route.kind, "both");
  const wokenAt = lab.internet.now;
  lab.left.talk(true);
  lab.run(1_000);
  assert.ok((lab.right.received.find(({ at }) => at >= wokenAt)?.at ?? Infinity) <= wokenAt + 100);
});

test("two peers that are idle and cannot reach each other do not keep each other awake", () => {
  const lab = new Lab("UDP blocked", "IPv4 only", 10).start();
  lab.run(20_000);
  lab.left.talk(false);
  lab.right.talk(false);
  lab.run(60_000);
  const sent = lab.right.path.counts.pingsSent;
  lab.run(600_000);
  assert.equal(lab.right.path.counts.pingsSent, sent);
});

/** The longest time without data in the span. */
function longestGap({ received }: LabAgent, from: number, to: number): number {
  const times = [from, ...received.map(({ at }) => at).filter((at) => at > from && at < to), to];
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? at)));
}
