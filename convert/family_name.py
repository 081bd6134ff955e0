"""Names of the model families."""

from enum import Enum


class FamilyName(str, Enum):
    """Families by name. Of the families that chat, it is also the prompt format that the server uses for a file."""

    CHATGLM2 = "chatglm2"
    CHATGLM3 = "chatglm3"
    CODEGEEX2 = "codegeex2"
    GLM4 = "glm4"
    GLM4_0414 = "glm4-0414"
    BAICHUAN = "baichuan"
    BAICHUAN2 = "baichuan2"
    BERT = "bert"
    XLM_ROBERTA = "xlm-roberta"
