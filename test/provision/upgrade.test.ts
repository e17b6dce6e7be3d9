import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { create, plan } from "../../src/provision/converge.js";
import { destroy, findDoomed } from "../../src/provision/destroy.js";
import { replace } from "../../src/provision/replace.js";
import { planUpgradeOf, upgrade } from "../../src/provision/upgrade.js";
import { requestFor, runParts } from "./faultparts.js";
import { clearGround, layGround, openWorld, type World } from "./faultworld.js";
import { withVersion } from "./upgradeworld.js";
import { Weather } from "./weather.js";

/** `upgrade` against the lab's real API server, on storages with and without snapshots. Needs root. */
const root = process.getuid?.() === 0;
const ground = root ? await layGround() : undefined;
after(() => ground && clearGround(ground));

async function made(storage: string): Promise<World> {
  assert.ok(ground);
  const world = await openWorld(ground);
  const parts = runParts(world, new Weather());
  await create(parts, requestFor(world), { name: "home", given: { storage } });
  parts.closeAll();
  return world;
}

async function withParts<T>(world: World, version: string, use: (parts: ReturnType<typeof runParts>) => Promise<T>) {
  const parts = runParts(world, new Weather());
  try {
    return await use(withVersion(parts, version));
  } finally {
    parts.closeAll();
  }
}

const only = (world: World) => {
  const [vmid = 0, ...others] = world.pve.guests.list();
  assert.deepEqual(others, [], "one container");
  const container = world.inside.containers.get(vmid);
  assert.ok(container);
  return { vmid, container, config: world.pve.guests.read(vmid).config };
};

function assertNothingKept(world: World): void {
  const { config } = only(world);
  assert.equal(config.snapshots.size, 0, "no snapshot");
  assert.doesNotMatch(config.options.description ?? "", /"save"|"beside"/);
  const backups = world.pve.storages.all.flatMap((one) =>
    one.entry.content.includes("backup") ? one.list("backup") : [],
  );
  assert.deepEqual(backups, [], "no backup");
  const disks = world.pve.storages.all.flatMap((one) => one.disks()).map(({ volid }) => volid);
  assert.deepEqual(disks, [config.options.rootfs?.split(",")[0]], "one volume");
}

describe("an upgrade that was killed after the backup was made", { skip: !root }, () => {
  const killed = async (): Promise<World> => {
    const world = await made("local");
    const weather = new Weather({ step: "ssh push 1 files", nth: 1, kind: "kill-after" });
    const parts = runParts(world, weather);
    const ended = upgrade(withVersion(parts, "1"), requestFor(world), "home").then(() => "done");
    assert.equal(await Promise.race([ended, weather.killed]), "killed");
    parts.closeAll();
    world.weather.current = undefined;
    assert.match(only(world).config.options.description ?? "", /"save":\{"how":"backup"/);
    return world;
  };
  const wanted = { name: "home", given: {} };

  test("is what `plan` tells of, and `create` goes on with it", async () => {
    const world = await killed();
    try {
      const planned = await withParts(world, "1", (parts) => plan(parts, requestFor(world), wanted));
      assert.deepEqual(
        planned.steps.map((step) => step.do),
        ["apply", "check-health", "forget-save"],
      );
      await withParts(world, "1", (parts) => create(parts, requestFor(world), wanted));
      assert.equal(only(world).container.version, "1");
      assertNothingKept(world);
    } finally {
      await world.close();
    }
  });

  test("leaves no backup behind when the exit node is destroyed", async () => {
    const world = await killed();
    try {
      await withParts(world, "1", async (parts) =>
        destroy(parts, requestFor(world), "home", await findDoomed(parts, requestFor(world), "home")),
      );
      assert.deepEqual([world.pve.guests.list(), world.pve.storages.get("local").list("backup")], [[], []]);
    } finally {
      await world.close();
    }
  });

  test("is gone back from when the version of the next run does not work", async () => {
    const world = await killed();
    try {
      await assert.rejects(
        withParts(world, "broken", (parts) => upgrade(parts, requestFor(world), "home")),
        { code: "upgrade-rolled-back" },
      );
      assert.equal(only(world).container.version, "0", "as before the first of the two");
      assertNothingKept(world);
    } finally {
      await world.close();
    }
  });
});

test("a login that may not take snapshots is told so, with the line that lets it, before anything is changed", {
  skip: !root,
}, async () => {
  const world = await made("local-zfs");
  try {
    const { config } = only(world);
    const { roles } = world.pve.accounts;
    roles.ExitnodeGuests = (roles.ExitnodeGuests ?? []).filter((priv) => !priv.startsWith("VM.Snapshot"));
    await assert.rejects(
      withParts(world, "1", (parts) => upgrade(parts, requestFor(world), "home")),
      (error: unknown) => {
        assert.ok(error instanceof Failure);
        assert.equal(error.code, "permissions-missing", error.message);
        assert.match(error.message, /lacks VM\.Snapshot on \/vms/);
        assert.match(error.advice ?? "", /pveum role add ExitnodeGuests --privs ".*VM\.Snapshot /);
        return true;
      },
    );
    assert.deepEqual(only(world).config, config);
  } finally {
    await world.close();
  }
});

describe("replacing the container", { skip: !root }, () => {
  test("puts a new one in its place, with its address and its keys, and the old one is gone", async () => {
    const world = await made("local");
    try {
      const { vmid: old, container: before } = only(world);
      const done = await withParts(world, "1", (parts) => replace(parts, requestFor(world), "home"));
      const { vmid, container, config } = only(world);
      assert.notEqual(vmid, old);
      assert.deepEqual([container.version, container.address, config.options.hostname], ["1", before.address, "home"]);
      const ids = before.devices.map(({ id }) => id);
      assert.deepEqual(
        container.devices.map(({ id, online }) => [id, online]),
        [[ids[0], true]],
        "the same device",
      );
      assert.ok(done.outageSeconds !== undefined);
      assertNothingKept(world);
      const left = await withParts(world, "1", (parts) => planUpgradeOf(parts, requestFor(world), "home"));
      assert.deepEqual([left.steps, left.differences], [[], []]);
    } finally {
      await world.close();
    }
  });

  test("a new one that does not work goes, and the old one works again", async () => {
    const world = await made("local");
    try {
      const { vmid: old } = only(world);
      await assert.rejects(
        withParts(world, "broken", (parts) => replace(parts, requestFor(world), "home")),
        (error: unknown) =>
          error instanceof Failure &&
          error.code === "upgrade-rolled-back" &&
          /in its old container again; .*activating/.test(error.message),
      );
      const { vmid, container } = only(world);
      assert.deepEqual([vmid, container.version, container.running], [old, "0", true]);
      assert.deepEqual(
        container.devices.map(({ name, online }) => [name, online]),
        [["home", true]],
      );
      assertNothingKept(world);
    } finally {
      await world.close();
    }
  });
});

for (const [storage, how] of [
  ["local-zfs", "snapshot"],
  ["local", "backup"],
] as const)
  describe(`on a storage that makes a ${how}`, { skip: !root }, () => {
    test("a new version is put in, works, and nothing is left of the state of before", async () => {
      const world = await made(storage);
      try {
        const planned = await withParts(world, "1", (parts) => planUpgradeOf(parts, requestFor(world), "home"));
        assert.deepEqual(planned.differences, [
          "the agent is version 0, wanted 1",
          "/opt/exitnode/agent.js is different",
        ]);
        assert.deepEqual(
          planned.steps.map((step) => ("how" in step ? `${step.do} ${step.how}` : step.do)),
          [`save ${how}`, "push-files", "apply", "check-health", `forget-save ${how}`],
        );
        const done = await withParts(world, "1", (parts) => upgrade(parts, requestFor(world), "home"));
        assert.ok(done.changed);
        assert.equal(only(world).container.version, "1");
        assertNothingKept(world);
        const again = await withParts(world, "1", (parts) => upgrade(parts, requestFor(world), "home"));
        assert.deepEqual([again.changed, again.steps.map(({ step }) => step)], [false, ["look-inside"]]);
      } finally {
        await world.close();
      }
    });

    test("a version that does not run is gone again, with the reason, and the one before works", async () => {
      const world = await made(storage);
      try {
        const { address } = only(world).container;
        await assert.rejects(
          withParts(world, "broken", (parts) => upgrade(parts, requestFor(world), "home")),
          (error: unknown) => {
            assert.ok(error instanceof Failure);
            assert.equal(error.code, "upgrade-rolled-back", error.stack);
            assert.match(
              error.message,
              /as it was before, version 0; the upgrade failed: .*the agent's unit is activating/,
            );
            return true;
          },
        );
        const { container } = only(world);
        assert.deepEqual([container.version, container.running, container.address], ["0", true, address]);
        assert.deepEqual(
          container.devices.map(({ name, online }) => [name, online]),
          [["home", true]],
        );
        assertNothingKept(world);
      } finally {
        await world.close();
      }
    });
  });
