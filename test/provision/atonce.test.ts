import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { emptyConfig } from "../../src/lab/pve/guestconfig.js";
import type { Pve } from "../../src/lab/pve/pve.js";
import { create } from "../../src/provision/converge.js";
import { requestFor, runParts } from "./faultparts.js";
import { clearGround, layGround, worldWithNetwork } from "./faultworld.js";
import { Weather } from "./weather.js";

/** Many administrators at one host, against the lab's real API server. Needs root. */
const ground = process.getuid?.() === 0 ? await layGround() : undefined;
after(() => ground && clearGround(ground));

const CREATES = 20;
/** Of the creates that arrive, those before which somebody else takes the next free id. */
const COLLISIONS = [2, 6, 9, 14];

test("20 creates at once, 4 of them overtaken by somebody else: each a healthy exit node or refused, none twice", {
  skip: ground === undefined && "needs root",
}, async () => {
  assert.ok(ground);
  const world = await worldWithNetwork(ground);
  const theirs: number[] = [];
  const takeNext = ({ guests }: Pve): void => {
    let vmid = 100;
    while (guests.has(vmid)) vmid++;
    guests.write(vmid, emptyConfig({ hostname: "theirs" }));
    theirs.push(vmid);
  };
  let creates = 0;
  world.weather.meanwhile = (call) =>
    call === "POST /nodes/pve1/lxc" && COLLISIONS.includes(++creates)
      ? { kind: "meanwhile", run: takeNext }
      : undefined;
  try {
    const names = Array.from({ length: CREATES }, (_, i) => `exit-${i}`);
    const ends = await Promise.all(
      names.map(async (name) => {
        const parts = runParts(world, new Weather());
        return create(parts, requestFor(world), { name, given: {} })
          .then(
            () => "healthy",
            (error: unknown) => error,
          )
          .finally(parts.closeAll);
      }),
    );
    const healthy = names.filter((_, i) => ends[i] === "healthy");
    for (const end of ends)
      assert.ok(end === "healthy" || (end instanceof Failure && end.advice !== undefined), String(end));
    assert.equal(theirs.length, COLLISIONS.length);
    const ours = world.pve.guests.list().filter((vmid) => !theirs.includes(vmid));
    const hostnames = ours.map((vmid) => world.pve.guests.read(vmid).config.options.hostname);
    assert.deepEqual(hostnames.sort(), [...healthy].sort(), "one container for each that succeeded");
    assert.deepEqual(world.network.devices.map(({ name }) => name).sort(), [...healthy].sort());
    assert.ok(ours.every((vmid) => world.inside.containers.get(vmid)?.joined));
    const disks = world.pve.storages.all.flatMap((storage) => storage.disks()).map(({ vmid }) => vmid);
    assert.deepEqual(disks.sort(), ours.sort(), "one volume for each");
    for (const vmid of theirs) assert.equal(world.pve.guests.read(vmid).config.options.hostname, "theirs");
    assert.equal(healthy.length, CREATES, `refused: ${ends.filter((end) => end !== "healthy").join("; ")}`);
  } finally {
    await world.close();
  }
});
