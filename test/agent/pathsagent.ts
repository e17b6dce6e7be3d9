import { createInterface } from "node:readline";
import { Agent } from "../../src/agent/agent.js";
import { KernelWireGuard } from "../../src/agent/kernelwireguard.js";
import { Engine } from "../../src/engine/engine.js";
import { asFailure } from "../../src/kit/failure.js";
import { DESCRIPTION_BYTES_MAX } from "../../src/nat/portmap/igd.js";
import { HTTP_TIMEOUT_MS } from "../../src/nat/portmap/service.js";
import { systemClock } from "../../src/sys/clock.js";
import { openDatagramSocket } from "../../src/sys/dgram.js";
import { localExec } from "../../src/sys/exec.js";
import { fetchText } from "../../src/sys/fetchtext.js";
import { localFiles } from "../../src/sys/files.js";
import { jsonLog } from "../../src/sys/log.js";
import { localNameService } from "../../src/sys/nameservice.js";
import { readNetInfo } from "../../src/sys/netinfo.js";
import { plainHttp } from "../../src/sys/plainhttp.js";
import { openProbeSocket } from "../../src/sys/probesocket.js";
import { systemRandom } from "../../src/sys/random.js";
import { lookUp } from "../../src/sys/resolve.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import { agentConfig } from "../../src/wire/agentconfig.js";

/**
 * A real agent with the userspace engine, or with what stands where the kernel's WireGuard would, in whatever place it is started: node pathsagent.js FOLDER CONFIG (as JSON).
 * A line on stdin is a request, a line on stdout its answer, in turn; the end of stdin stops it.
 */
const [folder = "", configText = ""] = process.argv.slice(2);
const config = agentConfig.parse(JSON.parse(configText));
const uid = process.getuid?.();
const stop = new AbortController();
const agent = new Agent(
  {
    files: localFiles,
    exec: localExec,
    clock: systemClock,
    random: systemRandom,
    log: jsonLog(config.name, process.env.EXITNODE_LOG ?? "error"),
    dial: dialWebSocket,
    fetchText,
    netInfo: readNetInfo,
    nameService: localNameService,
    dialRelay: dialStream,
    lookUp,
    openSocket: openDatagramSocket,
    fetchHttp: (request, from) =>
      plainHttp(request, from, { timeoutMs: HTTP_TIMEOUT_MS, bytesMax: DESCRIPTION_BYTES_MAX }),
    uid: uid === 0 ? undefined : uid,
    version: "test",
    folders: { var: folder },
    probeKernel: async () => false,
    openBackend: async (kind, onFailed) =>
      kind === "kernel"
        ? new KernelWireGuard(localExec, config.interface, systemClock, openProbeSocket)
        : new Engine({ workerUrl: new URL("../engine/enginehere.js", import.meta.url), onFailed }),
    ready: () => process.stdout.write("ready\n"),
  },
  config,
);
const lines = createInterface({ input: process.stdin });
let last: Promise<unknown> = Promise.resolve();
lines.on("line", (line) => {
  last = last.then(async () => process.stdout.write(`${JSON.stringify(await agent.answer(JSON.parse(line)))}\n`));
});
lines.once("close", () => stop.abort());
process.once("SIGTERM", () => stop.abort());
try {
  await agent.run(stop.signal);
} catch (error) {
  process.stderr.write(`${asFailure(error).message}\n`);
  process.exitCode = 1;
}
process.exit();
