export { default } from "../../node_modules/dompurify/dist/purify.es.mjs";
