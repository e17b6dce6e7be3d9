import assert from "node:assert/strict";
import { after, test } from "node:test";
import { creating, runMatrix, type Scenario, scenario } from "./faultrun.js";
import { clearGround, layGround, openWorld } from "./faultworld.js";
import { shortened } from "./weather.js";

/**
 * Every call of the Proxmox API that a `create` makes, with what can go wrong with it, against the lab's real API
 * server over HTTPS. Then it is run again, and all is well. The calls are those of an undisturbed run, noted before
 * the tests are made. Steps inside the container are in faultsteps.test.ts. Needs root.
 */
const ground = process.getuid?.() === 0 ? await layGround() : undefined;
after(() => ground && clearGround(ground));

let faults: Scenario["cases"] = [];
if (ground !== undefined) {
  const from = await openWorld(ground);
  const made = await scenario(ground, "create with a coordinator of its own", creating, from, (matrix) =>
    shortened(matrix.filter(({ step }) => /^(?:GET|POST|PUT|DELETE) /.test(step))),
  );
  faults = made.scenario.cases;
  after(() => Promise.all([from, made.after].map((world) => world.close())));
  runMatrix(ground, made.scenario);
}

test("40 calls meet a fault, and each one that changes something all nine", { skip: faults.length === 0 }, () => {
  const kinds = new Map<string, number>();
  for (const { step, nth } of faults) kinds.set(`${step} ${nth}`, (kinds.get(`${step} ${nth}`) ?? 0) + 1);
  assert.ok(kinds.size >= 40, `${kinds.size} calls`);
  for (const [call, count] of kinds) if (!call.startsWith("GET")) assert.equal(count, 9, call);
});
