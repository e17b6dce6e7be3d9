import { isEngineThread, runWorker } from "./engine/worker.js";

/**
 * The agent's bundle, pushed into containers and copied beside a person's devices. Loaded as a worker thread it is
 * the packet engine: that thread never evaluates the daemon's modules, which would cost it 15 MB.
 */
if (isEngineThread()) runWorker();
else {
  const { agentDaemon } = await import("./agentdaemon.js");
  process.exit(await agentDaemon(process.argv[2]));
}
