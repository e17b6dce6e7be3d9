import { join } from "node:path";
import { createInterface } from "node:readline";
import { setFilter } from "../../src/agent/filter.js";
import { Lookups } from "../../src/agent/names/lookups.js";
import { setNetwork } from "../../src/agent/network.js";
import { asFailure } from "../../src/kit/failure.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { localNameService } from "../../src/sys/nameservice.js";
import { readNetInfo } from "../../src/sys/netinfo.js";
import { systemRandom } from "../../src/sys/random.js";
import { agentConfig, DEVICE_FILES } from "../../src/wire/agentconfig.js";
import { networkMap } from "../../src/wire/map.js";

/**
 * The part of an agent that has to do with a machine's routes, rules and look-ups, as the agent's user: node lookupsagent.js FOLDER MAP (as JSON).
 * It answers the agent's socket there, as far as canaries go. A line on stdin is a choice (as JSON), a line on stdout the status that followed; the end of stdin stops it.
 */
const [folder = "", mapText = ""] = process.argv.slice(2);
const map = networkMap.parse(JSON.parse(mapText));
const config = agentConfig.parse({
  name: map.self.name,
  role: map.self.role,
  coordinator: { urls: ["https://203.0.113.7"], publicKey: map.peers[0]?.publicKey },
});
const parts = {
  files: localFiles,
  exec: localExec,
  random: systemRandom,
  nameService: localNameService,
  uid: process.getuid?.(),
  folders: { var: folder },
};
const lookups = new Lookups(parts);
const closeSocket = await serveLines(join(folder, DEVICE_FILES.socket), 0o666, async (value) => ({
  ok: true,
  value: { seen: lookups.canaries((value as { name: string }).name) },
}));
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const choice = JSON.parse(line);
    const near = readNetInfo().addresses.filter((one) => one.interface !== config.interface);
    await setFilter(localExec, config.interface, map.filter);
    const resolver = await lookups.follow(config, map, choice);
    await setNetwork(
      parts,
      config,
      map,
      choice,
      resolver,
      near.map(({ network }) => network),
    );
    await lookups.settle();
    process.stdout.write(`${JSON.stringify(lookups.status.dns ?? null)}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify(asFailure(error))}\n`);
  }
}
await closeSocket();
await lookups.close();
