// One contestant: its node, limited to a share of a core, and the client's end of the tunnel, which is the baseline's
// software whoever the node is. Only the node differs.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ended, groupName, NODE_ADDRESS, run, runWith, says, start } from "./bed.mjs";
import { makeShare } from "./share.mjs";

const MTU = 1420;

/** Where the server is reached without a tunnel, and through the tunnel of the contestant with this number. */
export const DIRECT_ADDRESS = "10.99.20.1";
export const serverAddress = (index) => `10.99.20.${index + 10}`;

/** The flags and environment of the agent, as its unit has them. */
function agentStart(root) {
  const unit = readFileSync(join(root, "templates/exitnode-agent.service.hbs"), "utf8");
  const flags = /^ExecStart=\S+ (.*) \S+$/m.exec(unit)?.[1];
  const malloc = /^Environment=(MALLOC_.*)$/m.exec(unit)?.[1];
  if (flags === undefined || malloc === undefined) throw new Error("the agent's unit has no ExecStart as expected");
  return { flags: flags.split(" "), env: Object.fromEntries(malloc.split(" ").map((pair) => pair.split("="))) };
}

function keyPair() {
  const { d, x } = generateKeyPairSync("x25519").privateKey.export({ format: "jwk" });
  const base64 = (text) => Buffer.from(text, "base64url").toString("base64");
  return { privateKey: base64(d), publicKey: base64(x) };
}

async function startGo(program, place, device, core, options, config) {
  const child = start(place, core, [program, device], {
    ...options,
    env: { WG_PROCESS_FOREGROUND: "1", LOG_LEVEL: "verbose" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  await says(child, "UAPI listener started");
  // Node's pipes are sockets, and wg opens its file by name.
  runWith(place, ["sh", "-c", 'cat | wg setconf "$0" /dev/stdin', device], config);
  return child;
}

async function startOurs(parts, device, options, want) {
  const { root, build, worker, profile, cores } = parts;
  const { flags, env } = agentStart(root);
  const profiling = profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`];
  const driver = join(root, "scripts/dataplane/enginenode.mjs");
  const argv = [process.execPath, ...flags, ...profiling, driver, build, worker];
  const child = start("node", cores.node, argv, { ...options, env, stdio: ["pipe", "pipe", "inherit"] });
  // That it has ended is seen by who waits for it.
  child.stdin.on("error", () => {});
  child.stdin.write(`${JSON.stringify({ ...want, name: device })}\n`);
  await says(child, "ready");
  return child;
}

/**
 * `parts`: root, build and worker of this checkout, the baseline's program, cores, share in percent, profile folder.
 * `strangers` are peers that are configured and never heard from.
 */
export async function openTunnel(parts, { index, name, kind, strangers = 0 }) {
  const net = `10.99.${100 + index}`;
  const devices = { client: `exnbdc${index}`, node: `exnbdn${index}` };
  const port = 51_820 + index;
  const client = keyPair();
  const node = keyPair();
  const peers = [{ publicKey: client.publicKey, allowedIps: [`${net}.1/32`] }];
  for (let i = 0; i < strangers; i++)
    peers.push({ publicKey: keyPair().publicKey, allowedIps: [`10.98.${index}.${i}/32`] });

  const options = { procs: makeShare(groupName(name), parts.share) };
  const child =
    kind === "ours"
      ? await startOurs(parts, devices.node, options, {
          privateKey: node.privateKey,
          listenPort: port,
          mtu: MTU,
          fwmark: 0,
          peers: peers.map((peer) => ({ ...peer, persistentKeepaliveSeconds: 0 })),
        })
      : await startGo(
          parts.program,
          "node",
          devices.node,
          parts.cores.node,
          options,
          [
            `[Interface]\nPrivateKey = ${node.privateKey}\nListenPort = ${port}`,
            ...peers.map((peer) => `[Peer]\nPublicKey = ${peer.publicKey}\nAllowedIPs = ${peer.allowedIps[0]}`),
          ].join("\n"),
        );
  const clientChild = await startGo(
    parts.program,
    "client",
    devices.client,
    parts.cores.rest,
    {},
    `[Interface]\nPrivateKey = ${client.privateKey}
[Peer]\nPublicKey = ${node.publicKey}\nAllowedIPs = ${net}.2/32, ${serverAddress(index)}/32
Endpoint = ${NODE_ADDRESS}:${port}\n`,
  );
  for (const [place, number] of [
    ["client", 1],
    ["node", 2],
  ]) {
    run(place, `ip address add ${net}.${number}/24 dev ${devices[place]}`);
    run(place, `ip link set ${devices[place]} mtu ${MTU} up`);
  }
  run("client", `ip route add ${serverAddress(index)}/32 dev ${devices.client}`);
  run("client", `ping -n -c 1 -W 6 ${serverAddress(index)}`);
  return {
    name,
    pid: child.pid,
    address: serverAddress(index),
    /** Another share of the core, from now on. */
    limit: (percent) => void makeShare(groupName(name), percent),
    async close() {
      if (kind === "ours") child.stdin.end();
      else child.kill();
      clientChild.kill();
      await Promise.all([ended(child), ended(clientChild)]);
    },
  };
}
