import assert from "node:assert/strict";
import { after, test } from "node:test";
import { creating, runMatrix, type Scenario, scenario } from "./faultrun.js";
import { clearGround, layGround, openWorld } from "./faultworld.js";

/**
 * Every call of the Proxmox API that a `create` makes, with everything that can go wrong with it, against the lab's
 * real API server over HTTPS. Then it is run again, and all is well. The calls are those of an undisturbed run, noted
 * before the tests are made. Steps inside the container are in faultsteps.test.ts. Needs root.
 */
const ground = process.getuid?.() === 0 ? await layGround() : undefined;
after(() => ground && clearGround(ground));

const scenarios: Scenario[] = [];
if (ground !== undefined) {
  const from = await openWorld(ground);
  const isCall = ({ step }: { readonly step: string }): boolean => /^(?:GET|POST|PUT|DELETE) /.test(step);
  const made = await scenario(ground, "create with a coordinator of its own", creating, from, isCall);
  scenarios.push(made.scenario);
  after(() => Promise.all([from, made.after].map((world) => world.close())));
  runMatrix(ground, made.scenario);
}

test("calls of the API have at least 150 cases", { skip: ground === undefined && "needs root" }, () => {
  const count = scenarios.reduce((sum, { cases }) => sum + cases.length, 0);
  assert.ok(count >= 150, `saw ${count}`);
});
