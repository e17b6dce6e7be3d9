import assert from "node:assert/strict";
import { after, test } from "node:test";
import { create } from "../../src/provision/converge.js";
import { requestFor, runParts } from "./faultparts.js";
import { type Action, replacing, runMatrix, type Scenario, scenario, upgrading } from "./faultrun.js";
import { clearGround, type Ground, layGround, openWorld, type World, worldWithNetwork } from "./faultworld.js";
import { isLong, Turns, Weather } from "./weather.js";

/**
 * Every call and step of an `upgrade` with everything that can go wrong with it, by each way of keeping the state of
 * before, and of putting a new container in the old one's place: like faultapi.test.ts. All of it takes minutes and
 * runs with EXITNODE_LONG_TESTS=1; otherwise each call and step meets one of its faults, in turn. Needs root.
 */
const ground = process.getuid?.() === 0 ? await layGround() : undefined;
after(() => ground && clearGround(ground));
/** One of them, for a look at it by itself. */
const only = process.env.EXITNODE_FAULTS_OF;

const WAYS: readonly { name: string; action: Action; storage: string; from: (ground: Ground) => Promise<World> }[] = [
  { name: "a snapshot", action: upgrading, storage: "local-zfs", from: openWorld },
  { name: "a backup", action: upgrading, storage: "local", from: openWorld },
  {
    name: "a copy",
    action: upgrading,
    storage: "local",
    // root@pam's ticket, and a coordinator elsewhere.
    from: (ground) => worldWithNetwork(ground, { noBackups: true }),
  },
  { name: "a new container", action: replacing, storage: "local", from: openWorld },
];

const known = new Set<string>();
const turns = new Turns();
const scenarios: Scenario[] = [];
if (ground !== undefined)
  for (const { name, action, storage, from } of WAYS.filter((way) => only === undefined || way.name === only)) {
    const world = await from(ground);
    const parts = runParts(world, new Weather());
    await create(parts, requestFor(world), { name: "home", given: { storage } });
    parts.closeAll();
    const one = await scenario(ground, `upgrade with ${name}`, action, world, isLong ? undefined : sample);
    after(() => Promise.all([world, one.after].map((each) => each.close())));
    scenarios.push(one.scenario);
  }
for (const one of scenarios) if (ground !== undefined) runMatrix(ground, one);

/** Each step that no scenario before has, with one of its faults. */
function sample(cases: Scenario["cases"]): Scenario["cases"] {
  return cases.flatMap(({ step, nth }) => {
    if (nth > 1 || known.has(step)) return [];
    known.add(step);
    return turns.next(cases.filter((one) => one.step === step && one.nth === 1));
  });
}

test("every kind of fault is met", { skip: ground === undefined && "needs root" }, () => {
  const kinds = new Set(scenarios.flatMap(({ cases }) => cases.map(({ kind }) => kind)));
  for (const kind of ["reset-before", "reset-after", "500", "596", "401", "hang", "kill-before", "kill-after"] as const)
    assert.ok(only !== undefined || kinds.has(kind), kind);
});
