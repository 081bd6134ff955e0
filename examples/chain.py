"""A chain of LangChain: a prompt, the model, the text of its answer; for three inputs at once."""

import os

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

address = os.environ.get("GLMSERVE_URL", "http://127.0.0.1:8000")
llm = ChatOpenAI(base_url=f"{address}/v1", api_key="none", model="chatglm2-tiny", temperature=0)
prompt = ChatPromptTemplate.from_messages([("user", "请判断是正面还是负面：{review}")])
chain = prompt | llm | StrOutputParser()
reviews = ["很好看，推荐！", "太无聊了。", "演员演得真好。"]
for review, verdict in zip(reviews, chain.batch([{"review": each} for each in reviews]), strict=True):
    print(review, verdict)
