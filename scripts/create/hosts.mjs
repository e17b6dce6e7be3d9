// How long `plan --all` takes for four Proxmox hosts with five exit nodes each. The hosts are this one process: the
// lab's API over HTTPS, and SSH servers that answer a look inside as a container does, all of it delayed. Prints
// {"seconds": […]}. Needs a network namespace of its own: it listens on 127.77.0.0/16.
// usage: hosts.mjs BUILD ONE-WAY-MS PROGRAM ROUNDS
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import ssh2 from "ssh2";
import { delayed } from "./delay.mjs";

const HOSTS = 4;
const EACH = 5;
const [build, oneWay, program, rounds] = process.argv.slice(2);
const { SeveralHosts } = await import(join(build, "test/cli/severalhosts.js"));
const { sshFingerprint } = await import(join(build, "src/sys/sshkey.js"));
const { STOCK_PACKAGES } = await import(join(build, "src/provision/stockpackages.js"));
const { MASKED_UNITS } = await import(join(build, "src/netconf/containerfiles.js"));
const { SECTION_MARK } = await import(join(build, "src/provision/inside.js"));

/** What the parts of a look that are always there say of a container that has just been started. */
const SEEN = {
  units: ["ssh active", "nftables active", "exitnode-agent active", "exitnode-coordinator inactive"],
  system: ["running"],
  nft: ["same"],
  tun: ["yes"],
  map: ["yes"],
  stock: [
    "system debian 13",
    ...STOCK_PACKAGES.map((name) => `package installed ${name} ${name === "nodejs" ? "20.19.2" : "1"}`),
    ...MASKED_UNITS.map((unit) => `masked ${unit}`),
  ],
  outside: ['{"ipv4":"203.0.113.77"}'],
};
const answer = Object.entries(SEEN)
  .map(([name, lines]) => `${SECTION_MARK} ${name}\n${lines.join("\n")}\n`)
  .join("");

const key = ssh2.utils.generateKeyPairSync("ed25519");
const hostKey = sshFingerprint(ssh2.utils.parseKey(key.private).getPublicSSH());

function sshServer(address, port) {
  const server = new ssh2.Server({ hostKeys: [key.private] }, (client) => {
    client.on("error", () => undefined);
    client.on("authentication", (context) => context.accept());
    client.on("session", (accept) =>
      accept().on("exec", (accepted) => {
        const channel = accepted();
        channel.on("data", () => undefined);
        channel.on("end", () => {
          channel.write(answer);
          channel.exit(0);
          channel.end();
        });
      }),
    );
  });
  return new Promise((resolve) => server.listen(port, address, resolve));
}

const world = new SeveralHosts();
const addressOf = (host, one = 0) => `127.77.${host}.${one + 1}`;
await world.open(
  Array.from({ length: HOSTS }, (_, i) => `pve${i + 1}`),
  { at: (i) => ({ address: addressOf(i), port: 18006 }), url: (i) => `https://${addressOf(i)}:8006` },
);
for (let host = 0; host < HOSTS; host++) {
  const api = addressOf(host);
  await delayed({ host: api, port: 8006 }, { host: api, port: 18006 }, Number(oneWay));
  for (let one = 1; one <= EACH; one++) {
    const address = addressOf(host, one);
    await sshServer(address, 10022);
    await delayed({ host: address, port: 22 }, { host: address, port: 10022 }, Number(oneWay));
    await world.exitNode(host, 100 + one, `node${host}${one}`, { address, hostKey });
  }
}
const took = [];
for (let round = 0; round < Number(rounds); round++) {
  const from = performance.now();
  const env = { ...process.env, EXITNODE_CONFIG: world.config, XDG_STATE_HOME: join(world.folder, "state") };
  const plan = spawn(process.execPath, [program, "plan", "--all", "--json"], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  plan.stdout.on("data", (chunk) => {
    out += chunk;
  });
  const [code] = await once(plan, "close");
  took.push((performance.now() - from) / 1000);
  const { plans, failed } = JSON.parse(out);
  if (code !== 4 || failed !== 0 || plans.length !== HOSTS * EACH)
    throw new Error(`plan --all ended with ${code}: ${out}`);
}
console.log(JSON.stringify({ seconds: took }));
await world.close();
process.exit(0);
