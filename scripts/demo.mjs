// The story of "where does my traffic go?": a café laptop, before and after, through an exit node that is made on the way.
import { execFileSync, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const program = join(root, "dist/exitnode.js");
const json = process.argv.includes("--json");
const startedAt = Number(process.env.EXN_DEMO_STARTED ?? Date.now());

const say = (line = "") => process.stderr.write(`${line}\n`);
const step = (line) => say(`\n▸ ${line}`);

/** Runs the program as a person would; its progress is shown, its --json value returned. */
function exitnode(args, { input, env, show = true } = {}) {
  if (show) say(`  $ exitnode ${args.join(" ")}`);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...env },
    });
    let out = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input ?? "");
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) return resolve(out);
      const failure = out.startsWith('{"error"') ? JSON.parse(out).error : { message: out.trim().slice(-500) };
      reject(Object.assign(new Error(failure.message), { advice: failure.advice, command: args.join(" ") }));
    });
  });
}

const value = async (args, options) => JSON.parse(await exitnode([...args, "--json"], options));
const laptop = (args, options) => exitnode(["lab", "exec", "laptop", "--", "exitnode", ...args], options);
const laptopValue = async (args, options) => JSON.parse(await laptop([...args, "--json"], options));
const curl = async (flag) =>
  (await exitnode(["lab", "exec", "laptop", "--", "curl", flag, "-s", "-m", "10", "http://whoami.lab/"])).trim();

const TARGET = "download.lab";
const VPS = "192.0.2.22";
const DIRECT_WITHIN_MS = 30_000;

/** The rented server's SSH host key, as its provider would show it. */
const hostKeyOfVps = () =>
  /(SHA256:\S{43}).*\(ED25519\)/.exec(
    execFileSync("ssh-keygen", ["-lf", "/var/lib/exitnode-lab/vps/known_hosts"], { encoding: "utf8" }),
  )?.[1] ?? "";

/** The laptop's way to the exit node, once it is direct; what it is by then, if it never becomes so. */
async function pathToExit() {
  const from = Date.now();
  for (;;) {
    const { peers } = await laptopValue(["status"], { show: false });
    const peer = peers.find(({ name }) => name === "home");
    if (peer?.path === "direct" || Date.now() - from > DIRECT_WITHIN_MS) return peer;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

try {
  step("the lab: an Internet, a home with a Proxmox host, a café with a laptop, a rented server");
  say("  both routers are ordinary ones: they translate addresses, and forward no port to anything inside");
  await value(["lab", "up", "--for", "demo", "--vps", "yes", "--forward", "no"]);

  step("before: the laptop in the café");
  const up = await laptopValue(["status"], { show: false }).catch(() => undefined);
  if (up?.exit !== undefined) await laptop(["use", "none"]);
  const egressBefore = { ipv4: await curl("-4"), ipv6: await curl("-6") };
  say(`  the web sees ${egressBefore.ipv4} and ${egressBefore.ipv6}`);
  const traceBefore = await laptopValue(["trace", TARGET]);
  say(indent(await laptop(["trace", TARGET], { show: false })));

  step("the coordinator, with a relay and STUN beside it, on the rented server");
  const login = ["--ssh", `root@${VPS}`, "--host-key", hostKeyOfVps()];
  const urls = ["--url", "https://vps.lab", "--url", `https://${VPS}`];
  const coordinator = await value(["coordinator", "up", ...login, ...urls], {
    env: { EXITNODE_WHOAMI: "http://whoami.lab/" },
  });
  say(coordinator.changed ? `  it answers at ${coordinator.urls.join(" and ")}` : "  there already, nothing to change");

  step("the exit node, through the Proxmox API");
  const created = await value(["create", "--host", "lab", "--name", "home"]);
  say(created.changed ? `  made in ${created.seconds.toFixed(1)} s` : "  there already, nothing to change");

  step("the laptop joins, and uses it");
  if (up === undefined) {
    const known = await laptop(["up", "--json"], { show: false }).catch(() => undefined);
    if (known === undefined) {
      const key = await value(["key", "create", "--role", "device"]);
      say("  $ exitnode up --join …");
      await laptop(["up", "--join", key.joinKey, "--name", "laptop"], { show: false });
    }
  }
  await laptop(["use", "home"]);
  const path = await pathToExit();
  say(
    path?.path === "direct"
      ? `  the two found a direct path through both routers: ${path.endpoint}`
      : `  no direct path within ${DIRECT_WITHIN_MS / 1000} s: traffic goes ${path?.path ?? "nowhere"}`,
  );

  step("after: the same laptop, the same café");
  const egressAfter = { ipv4: await curl("-4"), ipv6: await curl("-6") };
  say(`  the web sees ${egressAfter.ipv4} and ${egressAfter.ipv6}`);
  const traceAfter = await laptopValue(["trace", TARGET]);
  say(indent(await laptop(["trace", TARGET], { show: false })));

  const { name, vmid, unprivileged, cores, memoryMiB, dataPlane } = created.exitNode;
  const result = {
    exitNode: { name, vmid, unprivileged, cores, memoryMiB, dataPlane },
    path: { kind: path?.path ?? "none", endpoint: path?.endpoint ?? null },
    egress: { before: egressBefore, after: egressAfter },
    trace: { before: traceBefore.hops, after: [...traceAfter.under, ...traceAfter.hops] },
    seconds: { create: round(created.seconds), total: round((Date.now() - startedAt) / 1000) },
  };
  say(`
The lab is up. Look around:
  ${shown("lab status")}
  ${shown("lab exec laptop -- exitnode status")}
  ${shown("lab exec laptop -- exitnode trace whoami.lab")}
  ${shown("lab exec laptop -- curl -s http://whoami.lab/")}
  ${shown("list")}      the exit nodes
Take it down:
  ${shown("lab down")}`);
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
} catch (error) {
  say(`\ndemo: ${error.message}`);
  if (error.advice) say(`  → ${error.advice.replace(/^exitnode /, shown(""))}`);
  if (error.command) say(`  (in: exitnode ${error.command})`);
  process.exitCode = 1;
}

function shown(args) {
  return `node dist/exitnode.js ${args}`;
}

function round(seconds) {
  return Math.round(seconds * 10) / 10;
}

function indent(text) {
  return text.replace(/^(?=.)/gm, "    ").trimEnd();
}
