import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { create, plan } from "../../src/provision/converge.js";
import { readIdentity } from "../../src/provision/identity.js";
import { exitNodeFacts } from "../../src/provision/outcome.js";
import type { HostRequest, ProvisionParts } from "../../src/provision/parts.js";
import type { Ran } from "../../src/sys/exec.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts } from "./modelparts.js";

/** A kernel without WireGuard, and a login that is a token: the ways to /dev/net/tun that are left. */
const TOKEN = "exitnode@pve!cli";
const request = (defaults: HostRequest["defaults"] = {}): HostRequest => ({
  hostName: "pve1",
  login: TOKEN,
  pveNode: undefined,
  defaults,
});
const WANTED = { name: "home", given: {} };

function tokenHost(): ModelProxmox {
  const proxmox = new ModelProxmox();
  proxmox.login = TOKEN;
  proxmox.kernelWireguard = false;
  proxmox.kernel = "6.12.0-cloud-amd64";
  return proxmox;
}

/** Root's shell on the host, as far as `pct set` goes. */
function shellOf(proxmox: ModelProxmox, ran: string[][], refuse?: string): NonNullable<ProvisionParts["hostShell"]> {
  return async () => ({
    async run(argv): Promise<Ran> {
      ran.push([...argv]);
      if (refuse !== undefined) return { exitCode: 2, stdout: "", stderr: refuse };
      const [, , vmid, option = "", value = ""] = argv;
      proxmox.containers.get(Number(vmid))?.set({ [option.replace("--", "")]: value });
      return { exitCode: 0, stdout: "", stderr: "" };
    },
    push: async () => {},
    close() {},
  });
}

test("with nothing that may pass the device, the plan warns, the create ends without a trace, and all ways are told", async () => {
  const proxmox = tokenHost();
  const planned = await plan(await modelParts(proxmox, new ModelMachine()), request(), WANTED);
  const warning = planned.view.placement?.warnings?.find(({ name }) => name === "data plane");
  for (const way of [
    /modprobe wireguard/,
    /--ssh-jump root@HOST/,
    /pct template 900/,
    /tunSource: 900/,
    /--user root@pam/,
  ])
    assert.match(warning?.advice ?? "", way);
  await assert.rejects(create(await modelParts(proxmox, new ModelMachine()), request(), WANTED), {
    code: "data-plane-unavailable",
    advice: new RegExp(`exitnode host add ${request().hostName} --ssh-jump`),
  });
  assert.equal(proxmox.containers.size, 0);
});

test("with root's shell on the host, pct passes the device and the exit node works in user space", async () => {
  const proxmox = tokenHost();
  const ran: string[][] = [];
  const parts = { ...(await modelParts(proxmox, new ModelMachine())), hostShell: shellOf(proxmox, ran) };
  const done = await create(parts, request(), WANTED);
  assert.equal(exitNodeFacts(done.view).dataPlane, "userspace");
  assert.deepEqual(ran, [["pct", "set", "100", "--dev0", "/dev/net/tun,mode=0666"]]);
  assert.equal((await create(parts, request(), WANTED)).changed, false, "again changes nothing");
});

test("a pct that refuses is quoted, with where the jump must lead", async () => {
  const proxmox = tokenHost();
  const hostShell = shellOf(proxmox, [], "Configuration file 'nodes/pve1/lxc/100.conf' does not exist");
  const parts = { ...(await modelParts(proxmox, new ModelMachine())), hostShell };
  await assert.rejects(create(parts, request(), WANTED), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "tun-refused");
    assert.match(error.message, /100\.conf' does not exist/);
    return /--ssh-jump root@pve1/.test(error.advice ?? "");
  });
});

/** Container 900 as root makes it: with the device, and the administrator's key. */
async function withSource(change: Record<string, string> = {}): Promise<ModelProxmox> {
  const proxmox = tokenHost();
  const root = proxmox.client();
  proxmox.login = "root@pam";
  await root.create("pve1", {
    vmid: 900,
    ostemplate: "local:vztmpl/debian-13-exitnode_0.1.0-1_amd64.tar.zst",
    hostname: "exitnode-source",
    unprivileged: true,
    features: "nesting=1",
    dev0: "/dev/net/tun,mode=0666",
    rootfs: "local-lvm:vm-900-disk-0,size=4G",
    net0: "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto",
    description: "",
    ...change,
  });
  proxmox.login = TOKEN;
  return proxmox;
}

test("with a clone source, a token makes an exit node that has the device, with the source's host key pinned", async () => {
  const proxmox = await withSource();
  const machine = new ModelMachine();
  const defaults = { tunSource: 900 };
  const planned = await plan(await modelParts(proxmox, machine), request(defaults), WANTED);
  assert.ok(!planned.steps.some(({ do: step }) => step === "upload-template"), "a clone reads no template");
  const done = await create(await modelParts(proxmox, machine), request(defaults), WANTED);
  assert.equal(exitNodeFacts(done.view).dataPlane, "userspace");
  const made = proxmox.containers.get(100);
  assert.equal(readIdentity(made?.options.description ?? "")?.hostKey, proxmox.containers.get(900)?.hostKey);
  assert.deepEqual([made?.options.onboot, made?.options.swap, made?.tags], ["1", "0", ["exitnode"]]);
  assert.equal((await create(await modelParts(proxmox, machine), request(defaults), WANTED)).changed, false);
});

for (const { name, change, given, code } of [
  { name: "that has no device", change: { dev0: "/dev/ttyUSB0" }, given: {}, code: "source-without-tun" },
  { name: "that is privileged", change: { unprivileged: "0" }, given: {}, code: "source-privileged" },
  { name: "on another bridge than wanted", change: {}, given: { bridge: "vmbr1" }, code: "option-fixed" },
  { name: "with DHCP where an address is wanted", change: {}, given: { ip: "192.168.1.5/24" }, code: "option-fixed" },
] as const)
  test(`a clone source ${name} stops the plan as ${code}, before anything is made`, async () => {
    const proxmox = await withSource(change);
    const parts = await modelParts(proxmox, new ModelMachine());
    await assert.rejects(create(parts, request({ tunSource: 900 }), { name: "home", given }), { code });
    assert.deepEqual([...proxmox.containers.keys()], [900]);
  });

test("a clone source that is not there, or whose host key is not known, stops the plan", async () => {
  const parts = await modelParts(tokenHost(), new ModelMachine());
  await assert.rejects(create(parts, request({ tunSource: 900 }), WANTED), { code: "source-missing" });
  const proxmox = await withSource();
  proxmox.logs.clear();
  const forgetful = await modelParts(proxmox, new ModelMachine());
  await assert.rejects(create(forgetful, request({ tunSource: 900 }), WANTED), { code: "host-key-unknown" });
});
