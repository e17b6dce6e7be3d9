import { testInMachine } from "./machine.js";

testInMachine("whole agents under a kernel that has WireGuard", ["paths"]);
