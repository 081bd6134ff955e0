export * from "../../node_modules/marked/lib/marked.js";
