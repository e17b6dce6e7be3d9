import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { create, plan } from "../../src/provision/converge.js";
import { destroy, findDoomed } from "../../src/provision/destroy.js";
import { exitNodeFacts } from "../../src/provision/outcome.js";
import type { HostRequest } from "../../src/provision/parts.js";
import { ModelProxmox } from "./modelhost.js";
import { type Death, Killed, ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const WANTED = { name: "home", given: {} };

function only(proxmox: ModelProxmox) {
  assert.equal(proxmox.containers.size, 1, "exactly one container");
  const [container] = proxmox.containers.values();
  assert.ok(container);
  return container;
}

async function made(change: (proxmox: ModelProxmox) => void = () => {}) {
  const proxmox = new ModelProxmox();
  change(proxmox);
  const machine = new ModelMachine();
  const done = await create(await modelParts(proxmox, machine), REQUEST, WANTED);
  return { proxmox, machine, done };
}

const failsWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.equal(error.code, code, error.message);
  assert.ok(error.advice, "it has advice");
  return true;
};

describe("create", () => {
  test("installs what a template that is not ours lacks, and then nothing", async () => {
    const { proxmox, machine } = await made();
    only(proxmox).lacking.add("nftables").add("nodejs");
    const parts = await modelParts(proxmox, machine);
    const planned = await plan(parts, REQUEST, WANTED);
    const words = "read the package lists; install nodejs, nftables";
    assert.deepEqual(planned.steps[0], { do: "install-packages", words: words.split("; ") });
    const done = await create(parts, REQUEST, WANTED);
    assert.deepEqual([only(proxmox).lacking.size, done.changed], [0, true]);
    assert.equal((await create(parts, REQUEST, WANTED)).changed, false);
  });

  test("makes one unprivileged container with one core and 512 MiB, working", async () => {
    const { proxmox, machine, done } = await made();
    const container = only(proxmox);
    assert.equal(container.options.unprivileged, "1");
    assert.equal(container.options.onboot, "1");
    assert.equal(container.options.features, "nesting=1");
    assert.ok(container.joined);
    assert.deepEqual(exitNodeFacts(done.view), {
      name: "home",
      vmid: 100,
      pveNode: "pve1",
      running: true,
      unprivileged: true,
      cores: 1,
      memoryMiB: 512,
      dataPlane: "kernel",
      address: "198.18.77.100",
      publicAddress: "203.0.113.10",
      tunnelAddresses: ["100.64.0.1"],
      agentVersion: "0",
      egress: { ipv4: "203.0.113.10", ipv6: "2001:db8::10" },
    });
    assert.deepEqual(machine.record?.urls, ["https://203.0.113.10:443", "https://198.18.77.100:443"]);
    assert.ok(done.changed);
  });

  test("a container that comes out nowhere is told as one without Internet, with where to look", async () => {
    const { proxmox, machine } = await made();
    only(proxmox).egress = {};
    await assert.rejects(create(await modelParts(proxmox, machine), REQUEST, WANTED), {
      code: "exit-node-unhealthy",
      message: /does not reach the Internet/,
      advice: /^check that its bridge or VLAN .*\nexitnode doctor --host lab\n/,
    });
  });

  test("again changes nothing and says so", async () => {
    const { proxmox, machine } = await made();
    const before = JSON.stringify([...only(proxmox).files.keys(), only(proxmox).options]);
    const again = await create(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.equal(again.changed, false);
    assert.deepEqual(
      again.steps.map(({ step }) => step),
      ["look-inside"],
    );
    assert.equal(JSON.stringify([...only(proxmox).files.keys(), only(proxmox).options]), before);
    const planned = await plan(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.deepEqual([planned.steps, planned.differences], [[], []]);
  });

  test("a plan says what was changed by hand, in words, and the next create puts it right", async () => {
    const { proxmox, machine } = await made();
    const container = only(proxmox);
    container.options.memory = "1024";
    container.sysctl.set("net/ipv4/ip_forward", "0");
    container.loadedNft = "flushed";
    container.units.set("exitnode-agent", "failed");
    const planned = await plan(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.deepEqual(planned.differences, [
      "memory is 1024 MiB, wanted 512 MiB",
      "sysctl net.ipv4.ip_forward is 0, wanted 1",
      "the nftables rules in force are not those of /etc/nftables.conf",
      "exitnode-agent.service is failed, wanted active",
    ]);
    const done = await create(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.equal(done.changed, true);
    assert.equal(container.options.memory, "512");
    assert.deepEqual((await plan(await modelParts(proxmox, machine), REQUEST, WANTED)).steps, []);
  });

  test("what was chosen explicitly is kept by a later create that does not repeat it", async () => {
    const proxmox = new ModelProxmox();
    const machine = new ModelMachine();
    await create(await modelParts(proxmox, machine), REQUEST, { name: "home", given: { memory: 1024 } });
    const again = await create(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.equal(again.changed, false);
    assert.equal(only(proxmox).options.memory, "1024");
  });

  test("a lost answer is settled by looking: one container", async () => {
    const { proxmox } = await made((model) => {
      model.losesCreateAnswer = true;
    });
    assert.ok(only(proxmox).joined);
  });

  test("an id that somebody takes first is passed over, unless it was chosen", async () => {
    const { proxmox, done } = await made((model) => {
      model.raced = true;
    });
    assert.equal(done.view.container?.vmid, 101);
    assert.ok(only(proxmox).joined);
    const chosen = new ModelProxmox();
    chosen.raced = true;
    const parts = await modelParts(chosen, new ModelMachine());
    await assert.rejects(create(parts, REQUEST, { name: "home", given: { vmid: 200 } }), failsWith("vmid-taken"));
    assert.equal(chosen.containers.size, 0);
  });

  test("without WireGuard in the kernel, root@pam gets the userspace engine", async () => {
    const { proxmox, done } = await made((model) => {
      model.kernelWireguard = false;
    });
    assert.equal(exitNodeFacts(done.view).dataPlane, "userspace");
    assert.equal(only(proxmox).options.dev0, "/dev/net/tun,mode=0666");
  });

  test("an IPv6 address that is there before DHCP has answered is not what the exit node is known by", async () => {
    const { machine, done } = await made((model) => {
      model.ipv4After = 3;
    });
    assert.equal(exitNodeFacts(done.view).address, "198.18.77.100");
    assert.deepEqual(machine.record?.adminUrls[0], "https://198.18.77.100:443");
  });

  test("a coordinator that was lost with its container is replaced by a new one", async () => {
    const { proxmox, machine } = await made();
    proxmox.containers.clear();
    await create(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.ok(only(proxmox).joined);
    assert.deepEqual((await plan(await modelParts(proxmox, machine), REQUEST, WANTED)).steps, []);
  });

  test("destroy takes away the container, the coordinator's record and the journal, and a new create works", async () => {
    const { proxmox, machine } = await made();
    const parts = await modelParts(proxmox, machine);
    const gone = await destroy(parts, REQUEST, "home", await findDoomed(parts, REQUEST, "home"));
    assert.deepEqual([gone.vmid, gone.coordinator], [100, "gone"]);
    assert.equal(proxmox.containers.size, 0);
    assert.deepEqual([machine.record, machine.token, [...machine.files]], [undefined, undefined, []]);
    await create(await modelParts(proxmox, machine), REQUEST, WANTED);
    assert.ok(only(proxmox).joined);
  });

  test("destroy of what is not there is a Failure, and takes nothing of others", async () => {
    const { proxmox, machine } = await made();
    const parts = await modelParts(proxmox, machine);
    const doomed = await findDoomed(parts, REQUEST, "other");
    await assert.rejects(destroy(parts, REQUEST, "other", doomed), failsWith("exit-node-unknown"));
    assert.equal(proxmox.containers.size, 1);
    assert.ok(machine.record);
  });

  for (const [what, refusal] of [
    ["a used join key that was left waiting", "join-key-used"],
    ["a join key with an older list of trusted devices", "lock-differs"],
  ] as const)
    test(`${what} is replaced`, async () => {
      const { proxmox, machine } = await made();
      const container = only(proxmox);
      container.joined = false;
      container.devices.length = 0;
      container.refusal = refusal;
      await create(await modelParts(proxmox, machine), REQUEST, WANTED);
      assert.ok(container.joined);
    });
});

describe("create killed at every change it makes, then run again: one container, working, nothing left to do", () => {
  for (const when of ["before", "after"] as const)
    test(`killed ${when} the change`, async () => {
      let at = 0;
      for (let finished = false; !finished; ) {
        const proxmox = new ModelProxmox();
        const machine = new ModelMachine();
        const death: Death = { at: ++at, when, count: 0, dead: false };
        finished = await create(await modelParts(proxmox, machine, death), REQUEST, WANTED).then(
          () => true,
          (error: unknown) => {
            assert.ok(death.dead, `died of something else at ${at}: ${error}`);
            return false;
          },
        );
        const done = await create(await modelParts(proxmox, machine), REQUEST, WANTED);
        const container = only(proxmox);
        assert.ok(container.joined, `joined after a death ${when} change ${at}`);
        assert.equal(container.devices.length, 1);
        assert.equal(done.view.inside?.pending.length, 0);
        const left = await plan(await modelParts(proxmox, machine), REQUEST, WANTED);
        assert.deepEqual(left.steps, [], `nothing left after a death ${when} change ${at}`);
      }
      assert.ok(at > 20, `a create makes more than 20 changes, saw ${at}`);
      assert.ok(new Killed() instanceof Error);
    });
});

describe("bad input leaves nothing on the host", () => {
  const token: HostRequest = { ...REQUEST, login: "rm@pve!client" };
  const cases: {
    name: string;
    code: string;
    given?: Parameters<typeof create>[2]["given"];
    wantedName?: string;
    request?: HostRequest;
    change?: (proxmox: ModelProxmox, machine: ModelMachine) => void;
  }[] = [
    { name: "an unknown storage", code: "storage-unknown", given: { storage: "nosuch" } },
    { name: "a storage that holds no containers", code: "storage-content-refused", given: { storage: "local" } },
    { name: "a full storage", code: "storage-full", given: { storage: "small" } },
    { name: "an unknown bridge", code: "bridge-unknown", given: { bridge: "vmbr9" } },
    { name: "an unknown PVE node", code: "pve-node-unknown", given: { pveNode: "pve9" } },
    { name: "an unknown pool", code: "pool-unknown", given: { pool: "nosuch" } },
    { name: "an unknown template", code: "template-missing", given: { template: "local:vztmpl/nosuch.tar.zst" } },
    { name: "an invalid name", code: "name-invalid", wantedName: "-home" },
    {
      name: "a VMID that is taken",
      code: "vmid-taken",
      given: { vmid: 777 },
      change: (proxmox) => void proxmox.foreign.set(777, "nas"),
    },
    {
      name: "a name that is taken",
      code: "name-taken",
      change: (proxmox) => void proxmox.foreign.set(300, "home"),
    },
    {
      name: "no template anywhere",
      code: "template-missing",
      change: (_proxmox, machine) => {
        machine.appliance = undefined;
      },
    },
    {
      name: "a container that gets no address",
      code: "address-missing",
      change: (proxmox) => {
        proxmox.givesAddresses = false;
      },
    },
    {
      name: "a token where the kernel has no WireGuard",
      code: "data-plane-unavailable",
      request: token,
      change: (proxmox) => {
        proxmox.kernelWireguard = false;
        proxmox.login = token.login;
      },
    },
  ];
  for (const { name, code, given = {}, wantedName = "home", request = REQUEST, change } of cases)
    test(`${name}: ${code}`, async () => {
      const proxmox = new ModelProxmox();
      const machine = new ModelMachine();
      change?.(proxmox, machine);
      const parts = await modelParts(proxmox, machine);
      await assert.rejects(create(parts, request, { name: wantedName, given }), failsWith(code));
      assert.equal(proxmox.containers.size, 0);
    });

  test("a token without privileges is told all that are missing at once, with the lines that grant them", async () => {
    const proxmox = new ModelProxmox();
    proxmox.privileges = new Set(["VM.Audit", "VM.Allocate"]);
    const parts = await modelParts(proxmox, new ModelMachine());
    await assert.rejects(create(parts, token, WANTED), (error) => {
      assert.ok(failsWith("permissions-missing")(error) && error instanceof Failure);
      for (const priv of ["VM.PowerMgmt", "VM.Config.Network", "Datastore.AllocateSpace", "SDN.Use"])
        assert.match(error.message, new RegExp(priv));
      assert.match(error.advice ?? "", /pveum acl modify/);
      return true;
    });
    assert.equal(proxmox.containers.size, 0);
  });
});
