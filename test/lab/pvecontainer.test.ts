import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { destroyAllContainers } from "../../src/lab/pve/containers.js";
import { lxcRuntime } from "../../src/lab/pve/lxc.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { type Answer, pveRequest, tokenHeaders } from "./pverequest.js";

/**
 * Real containers, in a network namespace of this test's own. Needs root, LXC, and a Debian root file system with
 * systemd as a tar archive, named in EXITNODE_TEST_ROOTFS (.tar, .tar.xz or .tar.zst).
 */
const NAMESPACE = "exn-pt1";
const ARCHIVE = process.env.EXITNODE_TEST_ROOTFS ?? "";
const skip = process.getuid?.() !== 0 || !existsSync(ARCHIVE) ? "needs root and EXITNODE_TEST_ROOTFS" : false;

const enter = ["/usr/bin/nsenter", `--net=/run/netns/${NAMESPACE}`, "--"];
const TEMPLATE = `debian-13-test_1.0_amd64${/\.tar(\.\w+)?$/.exec(ARCHIVE)?.[0] ?? ".tar"}`;
let folder: string;
let pve: Pve;
let server: Awaited<ReturnType<typeof listenPve>>;
let call: (verb: string, path: string, params?: Record<string, unknown>) => Promise<Answer>;
let asRoot: typeof call;

const ip = (...args: string[]): string => execFileSync("ip", ["-n", NAMESPACE, ...args], { encoding: "utf8" });
const dirs = (): { stateDir: string; storageDir: string } => ({
  stateDir: join(folder, "state"),
  storageDir: join(folder, "storage"),
});

before(async () => {
  if (skip) return;
  execFileSync("sh", ["-c", `ip netns delete ${NAMESPACE} 2>/dev/null; ip netns add ${NAMESPACE}`]);
  ip("link", "add", "vmbr0", "type", "bridge");
  ip("address", "add", "10.77.9.1/24", "dev", "vmbr0");
  ip("link", "set", "vmbr0", "up");
  folder = mkdtempSync("/var/tmp/exn-pve-");
  execFileSync("chmod", ["755", folder]);
  const { stateDir, storageDir } = dirs();
  mkdirSync(join(storageDir, "local/template/cache"), { recursive: true });
  execFileSync("cp", ["--reflink=auto", ARCHIVE, join(storageDir, "local/template/cache", TEMPLATE)]);
  const access = await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const { fingerprint } = certificate;
  pve = openPve({
    nodeName: "pve1",
    ...dirs(),
    runtime: lxcRuntime(stateDir, enter),
    fingerprint,
    address: "127.0.0.1",
  });
  server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
  call = pveRequest(server, tokenHeaders(access.token.id, access.token.secret));
  const login = await pveRequest(server, {})("POST", "/access/ticket", {
    username: "root@pam",
    password: access.rootPassword,
  });
  const { ticket, CSRFPreventionToken } = login.body.data as Record<string, string>;
  asRoot = pveRequest(server, {
    Cookie: `PVEAuthCookie=${encodeURIComponent(ticket ?? "")}`,
    CSRFPreventionToken: CSRFPreventionToken ?? "",
  });
});

after(async () => {
  if (skip) return;
  await closePve(pve, server);
  await destroyAllContainers(dirs());
  rmSync(folder, { recursive: true, force: true });
  execFileSync("ip", ["netns", "delete", NAMESPACE]);
});

async function finished(answer: Answer): Promise<{ exit: string; log: string[] }> {
  assert.equal(answer.status, 200, answer.reason);
  const task = `/nodes/pve1/tasks/${encodeURIComponent(String(answer.body.data))}`;
  for (;;) {
    const { data } = (await asRoot("GET", `${task}/status`)).body as { data: { status: string; exitstatus: string } };
    if (data.status === "stopped") {
      const log = (await asRoot("GET", `${task}/log?limit=0`)).body.data as { t: string }[];
      return { exit: data.exitstatus, log: log.map(({ t }) => t) };
    }
    await delay(50);
  }
}

const inside = (vmid: number, ...argv: string[]): string =>
  execFileSync(
    enter[0] ?? "",
    [...enter.slice(1), "lxc-attach", "-P", join(dirs().stateDir, "lxc"), "-n", String(vmid), "--", ...argv],
    {
      encoding: "utf8",
    },
  );

const settings = {
  ostemplate: `local:vztmpl/${TEMPLATE}`,
  hostname: "exit1",
  unprivileged: 1,
  cores: 1,
  memory: 512,
  swap: 0,
  features: "nesting=1",
  rootfs: "local:2",
  net0: "name=eth0,bridge=vmbr0,ip=10.77.9.11/24,gw=10.77.9.1",
  "ssh-public-keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6vWQHfTT8+6ptV97vr2FO7M+Vocn/BEqLTsdSCw5xv admin@laptop",
};

test("a container goes from create to destroy with its limits in force, and leaves nothing", {
  skip,
  timeout: 600_000,
}, async () => {
  const created = await finished(await call("POST", "/nodes/pve1/lxc", { vmid: 901, ...settings }));
  assert.equal(created.exit, "OK", created.log.join("\n"));
  const keys = created.log.filter((line) => /^done: SHA256:[A-Za-z0-9+/]{43} root@exit1/.test(line));
  assert.equal(keys.length, 3, "one fingerprint for each host key");

  assert.equal((await finished(await call("POST", "/nodes/pve1/lxc/901/status/start"))).exit, "OK");
  const pid = pve.runtime.running(901)?.pid ?? 0;
  assert.match(readFileSync(`/proc/${pid}/uid_map`, "utf8"), /^\s*0\s+100000\s+65536\n$/);
  inside(901, "sh", "-c", "until test -S /run/dbus/system_bus_socket; do sleep 0.1; done");
  assert.equal(inside(901, "systemctl", "is-system-running", "--wait").trim(), "running");
  const shown = (await call("GET", "/nodes/pve1/lxc/901/interfaces")).body.data as { name: string; inet: string }[];
  assert.equal(shown.find(({ name }) => name === "eth0")?.inet, "10.77.9.11/24");
  assert.match(ip("-o", "link", "show", "veth901i0"), /master vmbr0/);

  assert.match(readFileSync(`/proc/${pid}/cgroup`, "utf8"), /lxc\.payload/);
  // What the host wrote down, and what a process inside runs into.
  assert.equal(limitOf(pid), 512 * 1024 * 1024);
  assert.throws(
    () => inside(901, "sh", "-c", "head -c 700M /dev/zero | tail -c 700M > /dev/null"),
    "700 MB do not fit into 512",
  );

  for (const file of readdirSync(join(dirs().storageDir, "local/images/901/vm-901-disk-0.raw/etc/ssh")))
    if (file.endsWith(".pub") && file.startsWith("ssh_host_")) {
      const print = execFileSync(
        "ssh-keygen",
        ["-lf", join(dirs().storageDir, "local/images/901/vm-901-disk-0.raw/etc/ssh", file)],
        { encoding: "utf8" },
      );
      assert.ok(
        keys.some((line) => line.includes(print.split(" ")[1] ?? "?")),
        `${file} is in the log`,
      );
    }
  assert.match(inside(901, "cat", "/root/.ssh/authorized_keys"), /BEGIN PVE[\s\S]*admin@laptop/);
  assert.equal(inside(901, "hostname").trim(), "exit1");
  inside(901, "sysctl", "-w", "net.ipv4.ip_forward=1");
  inside(901, "nft", "add", "table", "inet", "trial");
  assert.throws(() => inside(901, "test", "-e", "/dev/net/tun"), "no tun without dev0");

  assert.equal((await call("PUT", "/nodes/pve1/lxc/901/config", { memory: 640 })).status, 200);
  assert.equal(limitOf(pid), 640 * 1024 * 1024, "a change of memory reaches the running container");
  assert.equal((await finished(await call("POST", "/nodes/pve1/lxc/901/status/reboot"))).exit, "OK");
  assert.notEqual(pve.runtime.running(901)?.pid, pid);
  assert.equal((await finished(await call("POST", "/nodes/pve1/lxc/901/status/shutdown"))).exit, "OK");
  assert.equal(pve.runtime.running(901), undefined);
  assert.equal((await finished(await call("DELETE", "/nodes/pve1/lxc/901?purge=1"))).exit, "OK");
  assert.equal(existsSync(join(dirs().storageDir, "local/images/901")), false);
  assert.doesNotMatch(ip("link"), /veth901/);
});

test("dev0 that root@pam set gives an unprivileged container a tun device", { skip, timeout: 600_000 }, async () => {
  const { net0: _, ...rest } = settings;
  assert.equal((await call("POST", "/nodes/pve1/lxc", { vmid: 902, ...rest, dev0: "/dev/net/tun" })).status, 403);
  const created = await finished(await asRoot("POST", "/nodes/pve1/lxc", { vmid: 902, ...rest, dev0: "/dev/net/tun" }));
  assert.equal(created.exit, "OK");
  assert.equal((await finished(await call("POST", "/nodes/pve1/lxc/902/status/start"))).exit, "OK");
  inside(902, "ip", "tuntap", "add", "trial0", "mode", "tun");

  // The worst crash: LXC's own process is killed, and nothing looks after the container any more.
  const monitor = Number(readFileSync(join(dirs().stateDir, "lxc/902/pid"), "utf8"));
  process.kill(monitor, "SIGKILL");
  assert.deepEqual(await destroyAllContainers(dirs()), [902]);
  const groups = readdirSync("/sys/fs/cgroup").flatMap((name) => [
    `${name}/lxc.payload.902`,
    `${name}/lxc.monitor.902`,
  ]);
  assert.deepEqual(
    groups.filter((group) => existsSync(`/sys/fs/cgroup/${group}`)),
    [],
  );
  assert.deepEqual(pve.guests.list(), []);
});

test("a bridge that is not there fails the start, not the create", { skip, timeout: 600_000 }, async () => {
  const created = await asRoot("POST", "/nodes/pve1/lxc", {
    vmid: 903,
    ...settings,
    net0: "name=eth0,bridge=vmbr9,ip=dhcp",
  });
  assert.equal((await finished(created)).exit, "OK");
  assert.equal(
    (await finished(await asRoot("POST", "/nodes/pve1/lxc/903/status/start"))).exit,
    "bridge 'vmbr9' does not exist",
  );
  assert.equal((await finished(await asRoot("DELETE", "/nodes/pve1/lxc/903"))).exit, "OK");
});

function limitOf(pid: number): number {
  const groups = readFileSync(`/proc/${pid}/cgroup`, "utf8");
  const payload = /:(?:memory)?:(\/.*?lxc\.payload[^/\n]*)/.exec(groups)?.[1] ?? "";
  const files = [`/sys/fs/cgroup/memory${payload}/memory.limit_in_bytes`, `/sys/fs/cgroup${payload}/memory.max`];
  return Number(readFileSync(files.find(existsSync) ?? "", "utf8"));
}
