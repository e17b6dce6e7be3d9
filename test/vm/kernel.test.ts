import { testInMachine } from "./machine.js";

testInMachine("the data plane under a kernel that has WireGuard", ["kernelonly", "contracts", "engine"]);
