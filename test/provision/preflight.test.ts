import assert from "node:assert/strict";
import { test } from "node:test";
import { create, plan } from "../../src/provision/converge.js";
import { ownContainers } from "../../src/provision/observe.js";
import { judgeExisting } from "../../src/provision/preflight/existing.js";
import { observeHost, type Wish } from "../../src/provision/preflight/facts.js";
import { type Finding, refusal } from "../../src/provision/preflight/finding.js";
import { judgeHost } from "../../src/provision/preflight/judge.js";
import type { PveHost } from "../../src/pve/guests.js";
import { ROLES } from "../../src/pve/permissions.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const WISH: Wish = { hostName: "pve1", login: "root@pam", pveNode: undefined, options: {}, shell: false };
const TOKEN = "exitnode@pve!cli";
const APPLIANCE = {
  path: "/cache/a",
  name: "debian-13-exitnode_0.1.0-1_amd64.tar.zst",
  sizeBytes: 60_000_000,
  unpackedBytes: 1,
  sha512: "00",
};

type Situation = {
  readonly change?: (proxmox: ModelProxmox) => void;
  readonly calls?: Partial<PveHost>;
  readonly wish?: Partial<Wish>;
  readonly appliance?: typeof APPLIANCE | undefined;
};

/** The report of a model host where everything is held and is as it should be, but for what is changed. */
async function report(situation: Situation = {}): Promise<Finding[]> {
  const proxmox = new ModelProxmox();
  proxmox.privileges = new Set(Object.values(ROLES).flat());
  situation.change?.(proxmox);
  const host = { ...proxmox.client(), ...situation.calls };
  const wish = { ...WISH, ...situation.wish };
  const appliance = "appliance" in situation ? situation.appliance : APPLIANCE;
  return judgeHost(wish, await observeHost(host, wish, await host.guests(), async () => appliance));
}

test("a good host has no finding that stops or warns", async () => {
  const findings = await report();
  assert.deepEqual(
    findings.filter(({ severity }) => severity !== "fine"),
    [],
  );
  assert.equal(refusal(findings), undefined);
  assert.ok(findings.length >= 12, "and says what was looked at");
});

const storage = (id: string, type: string, content: string[], freeGib = 50) => ({
  ...{ id, type, content, active: true, shared: false },
  ...{ availBytes: freeGib * 1024 ** 3, totalBytes: 100 * 1024 ** 3 },
});
const bridge = { name: "vmbr0", active: true, cidr: undefined, gateway: undefined, vlanAware: false };
const answering = <T>(value: T) => ({ value: async (): Promise<T> => value });

type Row = Situation & {
  readonly title: string;
  readonly name: string;
  readonly is: Finding["severity"];
  readonly says: RegExp;
};

const rows: readonly Row[] = [
  {
    title: "Proxmox VE 7",
    calls: { version: answering({ version: "7.4-3", release: "7.4" }).value },
    name: "version",
    is: "stops",
    says: /7\.4-3, expected 8\.4 or newer.*apt full-upgrade/s,
  },
  {
    title: "a pve-container of Proxmox VE 9 that refuses Debian 13.1",
    change: (proxmox) => {
      proxmox.pveContainer = "6.0.9";
    },
    name: "pve-container",
    is: "stops",
    says: /6\.0\.9, expected 6\.0\.10 or newer.*apt full-upgrade/s,
  },
  {
    title: "a pve-container of Proxmox VE 8, which may know Debian 13",
    change: (proxmox) => {
      proxmox.pveContainer = "5.2.6";
    },
    name: "pve-container",
    is: "warns",
    says: /5\.2\.6.*late update.*apt full-upgrade/s,
  },
  {
    title: "a PVE node that is offline",
    calls: { nodes: answering([{ name: "pve1", online: false, fingerprint: undefined }]).value },
    name: "PVE node",
    is: "stops",
    says: /"pve1" is offline/,
  },
  {
    title: "a PVE node of another name",
    wish: { pveNode: "pve9" },
    name: "PVE node",
    is: "stops",
    says: /no PVE node "pve9"; there is: pve1.*--pve-node pve1/s,
  },
  {
    title: "a login without any right",
    change: (proxmox) => {
      proxmox.privileges = new Set();
    },
    wish: { login: TOKEN },
    name: "permissions",
    is: "stops",
    says: /lacks VM\.Allocate.*SDN\.Use on \/sdn\/zones\/localnetwork\/vmbr0.*pveum acl modify \/vms --roles ExitnodeGuests/s,
  },
  {
    title: "a login that may create but not upgrade",
    change: (proxmox) => {
      proxmox.privileges = new Set(
        Object.values(ROLES)
          .flat()
          .filter((priv) => !/Snapshot|Backup/.test(priv)),
      );
    },
    wish: { login: TOKEN },
    name: "for upgrades",
    is: "warns",
    says: /lacks VM\.Backup on \/vms.*pveum role add ExitnodeGuests/s,
  },
  {
    title: "a login that may not clone, where an upgrade has to copy the container",
    change: (proxmox) => {
      proxmox.storages = [storage("local", "dir", ["vztmpl", "rootdir"])];
      proxmox.privileges = new Set(
        Object.values(ROLES)
          .flat()
          .filter((priv) => priv !== "VM.Clone"),
      );
    },
    wish: { login: TOKEN },
    name: "for upgrades",
    is: "warns",
    says: /lacks VM\.Clone on \/vms.*pveum role add ExitnodeGuests/s,
  },
  {
    title: "a login that may not read kernel and packages",
    change: (proxmox) => {
      proxmox.privileges = new Set(
        Object.values(ROLES)
          .flat()
          .filter((priv) => priv !== "Sys.Audit"),
      );
    },
    wish: { login: TOKEN },
    name: "for diagnosis",
    is: "warns",
    says: /Sys\.Audit on \/nodes\/pve1.*pveum acl modify \/nodes\/pve1/s,
  },
  {
    title: "a pool that is not there",
    wish: { options: { pool: "exits" } },
    name: "pool",
    is: "stops",
    says: /no pool "exits".*there is: exitnode.*pveum pool add exits/s,
  },
  {
    title: "a storage that is not there",
    wish: { options: { storage: "tank" } },
    name: "container storage",
    is: "stops",
    says: /no storage "tank" on pve1.*local-lvm, small.*--storage local-lvm/s,
  },
  {
    title: "a storage of another content",
    wish: { options: { storage: "local" } },
    name: "container storage",
    is: "stops",
    says: /"local" does not hold containers.*--storage local-lvm.*pvesm set local --content vztmpl,backup,rootdir/s,
  },
  {
    title: "a storage that is not active",
    change: (proxmox) => {
      proxmox.storages = proxmox.storages.map((one) => ({ ...one, active: one.id !== "local-lvm" }));
    },
    wish: { options: { storage: "local-lvm" } },
    name: "container storage",
    is: "stops",
    says: /"local-lvm" is not active on pve1/,
  },
  {
    title: "a storage that is full",
    wish: { options: { storage: "small" } },
    name: "container storage",
    is: "stops",
    says: /1\.0 GiB free, 4\.0 GiB are needed/,
  },
  {
    title: "neither snapshots nor backups",
    change: (proxmox) => {
      proxmox.storages = [storage("local", "dir", ["vztmpl", "rootdir"])];
    },
    name: "snapshots",
    is: "warns",
    says: /local \(dir\) takes none, and no storage holds backups.*pvesm set local/s,
  },
  {
    title: "a root file system too full for an upload",
    calls: { nodeStatus: answering({ kernel: "6.14.11-4-pve", pveVersion: "9.2", rootFreeBytes: 10_000_000 }).value },
    name: "upload",
    is: "stops",
    says: /goes through \/var\/tmp there.*apt clean/s,
  },
  {
    title: "no template anywhere",
    appliance: undefined,
    name: "template",
    is: "stops",
    says: /exitnode appliance build/,
  },
  {
    title: "a bridge that is not there",
    wish: { options: { bridge: "vmbr7" } },
    name: "bridge",
    is: "stops",
    says: /no bridge "vmbr7" on pve1; there is: vmbr0, vmbr1.*--bridge vmbr0/s,
  },
  {
    title: "no bridge that may be seen",
    calls: { bridges: answering([]).value },
    name: "bridge",
    is: "warns",
    says: /sees no bridge on pve1; vmbr0 is taken.*ip link show type bridge/s,
  },
  {
    title: "a bridge that is down",
    calls: { bridges: answering([{ ...bridge, active: false }]).value },
    name: "bridge",
    is: "stops",
    says: /vmbr0 of pve1 is not up.*ifup vmbr0/s,
  },
  {
    title: "a kernel too old for WireGuard, and a token",
    change: (proxmox) => {
      proxmox.kernel = "5.4.203-1";
    },
    wish: { login: TOKEN },
    name: "data plane",
    is: "stops",
    says: /5\.4\.203-1 has no WireGuard.*--ssh-jump root@HOST.*tunSource: 900/s,
  },
  {
    title: "a userspace data plane, and a token",
    wish: { login: TOKEN, options: { dataPlane: "userspace" } },
    name: "data plane",
    is: "stops",
    says: /nothing here may pass \/dev\/net\/tun/,
  },
  {
    title: "a kernel of which nobody knows, and a token",
    change: (proxmox) => {
      proxmox.kernel = "6.12.0-cloud-amd64";
    },
    wish: { login: TOKEN },
    name: "data plane",
    is: "warns",
    says: /whether kernel 6\.12\.0-cloud-amd64 has WireGuard.*modprobe wireguard/s,
  },
  {
    title: "that kernel, with root's shell on the host",
    change: (proxmox) => {
      proxmox.kernel = "6.12.0-cloud-amd64";
    },
    wish: { login: TOKEN, shell: true },
    name: "data plane",
    is: "fine",
    says: /else userspace through \/dev\/net\/tun, which pct passes over SSH/,
  },
  {
    title: "a clock that is ahead",
    change: (proxmox) => {
      proxmox.skewMs = 300_000;
    },
    name: "clock",
    is: "warns",
    says: /300 s ahead of.*timedatectl.*chronyc makestep/s,
  },
  {
    title: "a clock that is behind",
    change: (proxmox) => {
      proxmox.skewMs = -90_000;
    },
    name: "clock",
    is: "warns",
    says: /90 s behind/,
  },
  {
    title: "an address of its own",
    wish: { options: { ip: "192.168.1.5/24" } },
    name: "DHCP",
    is: "fine",
    says: /not needed/,
  },
  {
    title: "a PVE node that has its own address by DHCP",
    calls: { bridges: answering([{ ...bridge, byDhcp: true }]).value },
    name: "DHCP",
    is: "fine",
    says: /the PVE node has its own address from it/,
  },
];

for (const { title, name, is, says, ...situation } of rows)
  test(`${title}: "${name}" ${is}, with what to do`, async () => {
    const findings = await report(situation);
    const found = findings.find((one) => one.name === name);
    assert.ok(found, `there is a finding "${name}" among ${findings.map((one) => one.name).join(", ")}`);
    assert.equal(found.severity, is, found.what);
    assert.match(`${found.what}\n${found.why ?? ""}\n${found.advice ?? ""}`, says);
    if (is !== "fine") assert.ok(found.advice, "it says what to type");
    if (is === "stops") assert.ok(found.code, "it has the code of a Failure");
  });

/** A host with an exit node, and what Proxmox says of it. */
async function withExitNode(change: (options: Record<string, string>, proxmox: ModelProxmox) => void) {
  const proxmox = new ModelProxmox();
  await create(await modelParts(proxmox, new ModelMachine()), REQUEST, { name: "home", given: {} });
  const container = proxmox.containers.get(100);
  assert.ok(container);
  change(container.options, proxmox);
  return proxmox;
}

async function existing(change: (options: Record<string, string>, proxmox: ModelProxmox) => void) {
  const proxmox = await withExitNode(change);
  const host = proxmox.client();
  return judgeExisting(host, "pve1", await ownContainers(host));
}

test("an exit node as create makes it has neither trouble with a firewall nor with the host's start", async () => {
  const findings = await existing(() => {});
  assert.deepEqual(
    findings.map(({ name, severity }) => [name, severity]),
    [
      ['firewall of "home"', "fine"],
      ['start of "home"', "fine"],
    ],
  );
});

test("an exit node that does not start with the host is told, with the command that mends it", async () => {
  const [, start] = await existing((options) => {
    options.onboot = "0";
  });
  assert.equal(start?.severity, "warns");
  assert.equal(start?.advice, "exitnode create --host pve1 --name home");
});

test("a place in the start order is told", async () => {
  const [, start] = await existing((options) => {
    options.startup = "order=3,up=10";
  });
  assert.match(start?.what ?? "", /in place 3/);
});

const DROPS = { on: true, ipFilter: false, policyIn: "DROP", policyOut: "ACCEPT", rules: [] };
const rule = { on: true, type: "in", action: "ACCEPT", proto: "udp", dport: "51820", source: "" };
for (const { title, firewall, card = ",firewall=1", is } of [
  { title: "that drops what comes in", firewall: DROPS, is: "warns" },
  { title: "that is not on for the network card", firewall: DROPS, card: "", is: "fine" },
  { title: "that is off for the container", firewall: { ...DROPS, on: false }, is: "fine" },
  { title: "with a rule for the port", firewall: { ...DROPS, rules: [rule] }, is: "fine" },
  {
    title: "with a rule for a range",
    firewall: { ...DROPS, rules: [{ ...rule, dport: "80,51000:52000" }] },
    is: "fine",
  },
  { title: "with a rule that is off", firewall: { ...DROPS, rules: [{ ...rule, on: false }] }, is: "warns" },
  {
    title: "with a rule for some senders",
    firewall: { ...DROPS, rules: [{ ...rule, source: "10.0.0.0/8" }] },
    is: "warns",
  },
  { title: "with a rule for TCP", firewall: { ...DROPS, rules: [{ ...rule, proto: "tcp" }] }, is: "warns" },
  {
    title: "whose first rule rejects",
    firewall: { ...DROPS, rules: [{ ...rule, action: "REJECT" }, rule] },
    is: "warns",
  },
  {
    title: "with a security group",
    firewall: { ...DROPS, rules: [{ ...rule, type: "group", action: "wg" }] },
    is: "fine",
  },
  {
    title: "that lets in and drops what goes out",
    firewall: { ...DROPS, policyIn: "ACCEPT", policyOut: "DROP" },
    is: "warns",
  },
])
  test(`a firewall of Proxmox's ${title}: ${is}`, async () => {
    const [firewalls] = await existing((options, proxmox) => {
      options.net0 = `${options.net0}${card}`;
      proxmox.firewall = firewall;
    });
    assert.equal(firewalls?.severity, is, firewalls?.what);
    if (is === "warns") assert.match(firewalls?.advice ?? "", /pvesh create \/nodes\/pve1\/lxc\/100\/firewall\/rules/);
  });

test("a firewall that lets out only written addresses is told where the address comes by DHCP, and not where it is fixed", async () => {
  const judged = async (ip: string) => {
    const [firewalls] = await existing((options, proxmox) => {
      options.net0 = `name=eth0,bridge=vmbr0,firewall=1,${ip},type=veth`;
      proxmox.firewall = { ...DROPS, ipFilter: true, rules: [rule] };
    });
    return firewalls?.advice;
  };
  const off = "on the Proxmox host, as root:\npvesh set /nodes/pve1/lxc/100/firewall/options --ipfilter 0";
  assert.equal(await judged("ip=dhcp"), off);
  assert.equal(await judged("ip=10.0.0.5/24,ip6=auto"), off);
  assert.equal(await judged("ip=10.0.0.5/24"), undefined);
});

test("a container on the bridge that has an address by DHCP shows that there is one; one that waits warns", async () => {
  const proxmox = await withExitNode(() => {});
  const dhcp = async (): Promise<Finding | undefined> => {
    const host = proxmox.client();
    const facts = await observeHost(host, WISH, await host.guests(), async () => APPLIANCE);
    return judgeHost(WISH, facts).find(({ name }) => name === "DHCP");
  };
  assert.equal((await dhcp())?.what, "container 100 has 198.18.77.100 from it on vmbr0");
  proxmox.givesAddresses = false;
  assert.equal((await dhcp())?.severity, "warns");
});

test("everything that stops a create is told in one Failure, each with its command, and nothing is made", async () => {
  const proxmox = new ModelProxmox();
  const machine = new ModelMachine();
  machine.appliance = undefined;
  const given = { storage: "tank", bridge: "vmbr7" };
  await assert.rejects(
    create(await modelParts(proxmox, machine), REQUEST, { name: "home", given }),
    (error: Error & { code?: string; advice?: string }) => {
      assert.equal(error.code, "preflight-failed");
      assert.match(error.message, /^3 things are in the way: .*"tank".*; neither the host.*; .*"vmbr7"/);
      for (const line of [/--storage local-lvm/, /appliance build/, /--bridge vmbr0/])
        assert.match(error.advice ?? "", line);
      return true;
    },
  );
  assert.equal(proxmox.containers.size, 0);
});

test("a create with only warnings goes on, and the plan has them", async () => {
  const proxmox = new ModelProxmox();
  proxmox.skewMs = 600_000;
  const wanted = { name: "home", given: {} };
  const { view } = await plan(await modelParts(proxmox, new ModelMachine()), REQUEST, wanted);
  assert.ok(view.placement?.warnings?.some(({ name }) => name === "clock"));
  assert.ok((await create(await modelParts(proxmox, new ModelMachine()), REQUEST, wanted)).changed);
});
