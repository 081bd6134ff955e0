"""Rerank three documents by Cohere's library, and by LlamaIndex and LangChain on top of it; print what they got."""

import json
import sys

import cohere
from langchain_cohere import CohereRerank as LangChainRerank
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank

url, key, query, *documents = sys.argv[1:]
MODEL = "bge-reranker-base"
told = {}

second = cohere.ClientV2(api_key=key, base_url=url)
reply = second.rerank(model=MODEL, query=query, documents=documents, top_n=2, max_tokens_per_doc=100)
told["v2"] = [(one.index, one.relevance_score) for one in reply.results]
told["units"] = reply.meta.billed_units.search_units

reply = cohere.Client(api_key=key, base_url=url).rerank(
    model=MODEL, query=query, documents=[{"text": text} for text in documents], return_documents=True
)
told["v1"] = [(one.index, one.document.text) for one in reply.results]

try:
    second.rerank(model="nothing", query=query, documents=documents)
except cohere.NotFoundError as error:
    told["unknown_model"] = error.body["error"]["code"]

nodes = [NodeWithScore(node=TextNode(text=text)) for text in documents]
of_cohere = CohereRerank(api_key=key, model=MODEL, top_n=2, base_url=url)
told["llama_index_cohere"] = [(one.node.text, one.score) for one in of_cohere.postprocess_nodes(nodes, query_str=query)]
of_jina = JinaRerank(api_key=key, model=MODEL, top_n=2, base_url=f"{url}/v1")
told["llama_index_jina"] = [(one.node.text, one.score) for one in of_jina.postprocess_nodes(nodes, query_str=query)]

compressor = LangChainRerank(cohere_api_key=key, model=MODEL, base_url=url, top_n=2)
best = compressor.compress_documents([Document(text) for text in documents], query)
told["langchain"] = [(one.page_content, one.metadata["relevance_score"]) for one in best]

print(json.dumps(told, ensure_ascii=False))
