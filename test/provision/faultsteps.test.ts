import { after } from "node:test";
import { creating, destroying, destroyingAll, runMatrix, scenario } from "./faultrun.js";
import { clearGround, layGround, openWorld, worldWithNetwork } from "./faultworld.js";
import { type Planned, shortened } from "./weather.js";

/**
 * Every step of a `create` over SSH and on the administrator's machine, every call and step of a `destroy`, and the
 * talk of both with a coordinator elsewhere: like faultapi.test.ts. Needs root.
 */
const ground = process.getuid?.() === 0 ? await layGround() : undefined;
after(() => ground && clearGround(ground));

if (ground !== undefined) {
  const bare = await openWorld(ground);
  const ofSteps = (steps: RegExp) => (matrix: readonly Planned[]) =>
    shortened(matrix.filter(({ step }) => steps.test(step)));
  const own = await scenario(ground, "create with a coordinator of its own", creating, bare, ofSteps(/^(?:ssh|here) /));
  const ownGone = await scenario(ground, "destroy with its coordinator", destroying, own.after);
  const elsewhere = await worldWithNetwork(ground);
  // It differs from the first in its login, and in its talk with the coordinator.
  const inTalk = ofSteps(/^coordinator|^POST \/access\/ticket$/);
  const joined = await scenario(ground, "create in a network that is there", creating, elsewhere, inTalk);
  const joinedGone = await scenario(ground, "destroy in a network that stays", destroying, joined.after);
  // The token of least privilege may not remove a template: that needs Datastore.Allocate.
  const atStorage = ofSteps(/\/storage|imgdel|^here/);
  const joinedAll = await scenario(ground, "destroy with its template", destroyingAll, joined.after, atStorage);
  const all = [own, ownGone, joinedAll, joined, joinedGone];
  after(() => Promise.all([bare, elsewhere, ...all.map((one) => one.after)].map((world) => world.close())));
  for (const one of all) runMatrix(ground, one.scenario);
}
