import { runWorker } from "../../src/engine/worker.js";

runWorker();
