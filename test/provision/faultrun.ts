import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { create, plan } from "../../src/provision/converge.js";
import { destroy, findDoomed } from "../../src/provision/destroy.js";
import type { HostRequest } from "../../src/provision/parts.js";
import { replace } from "../../src/provision/replace.js";
import { upgrade } from "../../src/provision/upgrade.js";
import { type RunParts, requestFor, runParts } from "./faultparts.js";
import { type Ground, openWorld, type World } from "./faultworld.js";
import { withVersion } from "./upgradeworld.js";
import { matrixOf, type Planned, shortened, Weather } from "./weather.js";

/** One command with one thing that goes wrong, the same command again without, and what there has to be then. */
const WANTED = { name: "home", given: {} };
const AT_ONCE = 8;

export type Action = (parts: RunParts, request: HostRequest) => Promise<unknown>;
export const creating: Action = (parts, request) => create(parts, request, WANTED);
/** The version that an upgrade brings. */
const NEW = "1";
export const upgrading: Action = (parts, request) => upgrade(withVersion(parts, NEW), request, "home");
const destroyingWith =
  (templates: boolean): Action =>
  async (parts, request) =>
    destroy(parts, request, "home", await findDoomed(parts, request, "home", { templates }));
export const destroying = destroyingWith(false);
export const replacing: Action = (parts, request) => replace(withVersion(parts, NEW), request, "home");
export const destroyingAll = destroyingWith(true);
const DESTROYS = new Set([destroying, destroyingAll]);

/** The run's end: "done", "killed", or what was thrown. */
async function ran(world: World, action: Action, planned?: Planned): Promise<{ end: unknown; weather: Weather }> {
  const weather = new Weather(planned);
  const parts = runParts(world, weather);
  const ended = action(parts, requestFor(world)).then(
    () => "done",
    (error: unknown) => error,
  );
  const end = await Promise.race([ended, weather.killed]);
  parts.closeAll();
  world.weather.current = undefined;
  return { end, weather };
}

/** An undisturbed run, and the steps it took. */
export async function calmly(world: World, action: Action): Promise<string[]> {
  const { end, weather } = await ran(world, action);
  assert.equal(end, "done", end instanceof Error ? `${end.stack}` : String(end));
  return weather.steps;
}

export type Scenario = {
  readonly name: string;
  readonly action: Action;
  readonly from: World;
  readonly cases: readonly Planned[];
};

/** `from` is what each case begins with; the undisturbed run is done on a copy, which is given back. */
export async function scenario(
  ground: Ground,
  name: string,
  action: Action,
  from: World,
  choose: (matrix: readonly Planned[]) => readonly Planned[] = shortened,
): Promise<{ scenario: Scenario; after: World }> {
  const after = await openWorld(ground, from);
  const cases = choose(matrixOf(await calmly(after, action)));
  await assertWell(after, action);
  return { scenario: { name, action, from, cases }, after };
}

export function runMatrix(ground: Ground, { name, action, from, cases }: Scenario): void {
  describe(`${name} meets it, then is run once more`, { concurrency: AT_ONCE }, () => {
    for (const planned of cases)
      test(`${planned.kind} at ${planned.step} (${planned.nth}.): all is well after one more run`, async () => {
        const world = await openWorld(ground, from);
        try {
          const { end, weather } = await ran(world, action, planned);
          assert.ok(end === "done" || end === "killed" || end instanceof Failure, String(end));
          // How often a task is polled depends on how long it takes.
          assert.ok(weather.hit || planned.step.includes("/tasks/"), "the step came");
          if (planned.kind.startsWith("kill") && weather.hit) assert.equal(end, "killed");
          const { end: again } = await ran(world, action);
          const words = again instanceof Error ? again.stack : String(again);
          // When everything is taken away, journal and all, there is nothing to say but that.
          const isGone = DESTROYS.has(action) && again instanceof Failure && again.code === "exit-node-unknown";
          assert.ok(again === "done" || isGone, `the second run: ${words}; the first: ${end}`);
          await assertWell(world, action);
        } finally {
          await world.close();
        }
      });
  });
}

const assertWell = async (world: World, action: Action): Promise<void> => {
  if (DESTROYS.has(action)) return assertNothing(world, action === destroyingAll);
  await assertOneHealthy(world, action === upgrading || action === replacing ? NEW : undefined);
};

const disksOf = ({ pve }: World): string[] =>
  pve.storages.all.flatMap((storage) => storage.disks()).map(({ volid }) => volid);
const backupsOf = ({ pve }: World): string[] =>
  pve.storages.all
    .filter(({ entry }) => entry.content.includes("backup"))
    .flatMap((storage) => storage.list("backup"))
    .map(({ volid }) => volid);
const templatesOf = ({ pve }: World): string[] =>
  pve.storages
    .get("local")
    .list("vztmpl")
    .map(({ volid }) => volid);

async function assertOneHealthy(world: World, version: string | undefined): Promise<void> {
  const [vmid = 0, ...others] = world.pve.guests.list();
  assert.deepEqual(others, [], "one container");
  const { options, snapshots } = world.pve.guests.read(vmid).config;
  assert.equal(options.lock, undefined);
  assert.deepEqual([...snapshots.keys(), ...backupsOf(world)], [], "neither snapshot nor backup");
  assert.doesNotMatch(options.description ?? "", /"(?:save|beside)":/);
  assert.deepEqual(disksOf(world), [options.rootfs?.split(",")[0]], "one volume, the container's");
  assert.deepEqual(templatesOf(world), [`local:vztmpl/${world.ground.appliance.name}`]);
  const container = world.inside.containers.get(vmid);
  assert.ok(container?.running && container.joined, "it runs and is in the network");
  assert.deepEqual(
    container.devices.map(({ name, online }) => ({ name, online })),
    [{ name: "home", online: true }],
  );
  if (version !== undefined) assert.equal(container.version, version);
  const parts = runParts(world, new Weather());
  const left = await plan(version === undefined ? parts : withVersion(parts, version), requestFor(world), WANTED);
  parts.closeAll();
  assert.deepEqual([left.steps, left.differences, left.view.inside?.pending], [[], [], []]);
}

function assertNothing(world: World, noTemplate: boolean): void {
  if (noTemplate) assert.deepEqual(templatesOf(world), []);
  assert.deepEqual([world.pve.guests.list(), disksOf(world)], [[], []]);
  assert.deepEqual(world.network.devices, [], "no device in the coordinator");
  assert.deepEqual([...world.machine.files.keys()], [], "no journal");
  if (!world.inside.elsewhere) assert.deepEqual([world.machine.record, world.machine.token], [undefined, undefined]);
}
