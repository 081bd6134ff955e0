"""The templates of the intent sentences: wordings that share one record.

Slots: ``{p}`` a person, ``{d}`` a date, ``{n}`` a time just past, ``{c}`` a time ahead, ``{r}`` the time of a
reminder (never recorded), ``{e}`` a kind of anniversary, ``{i}`` a thing, ``{l}`` a place.
"""

from dataclasses import dataclass

BIRTHDAY, ANNIVERSARY, PERIOD, STORAGE = "生日", "纪念日", "月经", "物品存放"
BIRTHDAY_TIME, ANNIVERSARY_TIME = "生日时间", "纪念日时间"
PERIOD_START, PERIOD_END = "月经开始时间", "月经结束时间"
ME = ("我", "本人")
SOMEBODY = ("待查询", "待查询")


@dataclass(frozen=True)
class Template:
    """Wordings of one meaning, and the parts of the record that no slot gives.

    ``order`` says that the wordings are orders, which 请 and 帮我 may open.
    """

    topic: str
    purpose: str
    wordings: tuple[str, ...]
    time: str = "无"
    time_type: str = "无"
    person: tuple[str, str] = ME
    asks_place: bool = False
    asks_item: bool = False
    order: bool = False


def _birthday(purpose: str, *wordings: str, time: str = "待查询", time_type: str = BIRTHDAY_TIME,
              person: tuple[str, str] = ME, order: bool = False) -> Template:  # fmt: skip
    return Template(BIRTHDAY, purpose, wordings, time, time_type, person, order=order)


def _anniversary(purpose: str, *wordings: str, time: str = "待查询", order: bool = False) -> Template:
    time_type = "无" if time == "无" else ANNIVERSARY_TIME
    return Template(ANNIVERSARY, purpose, wordings, time, time_type, order=order)


def _period(purpose: str, time: str, time_type: str, *wordings: str, order: bool = False) -> Template:
    return Template(PERIOD, purpose, wordings, time, time_type, order=order)


def _storage(purpose: str, *wordings: str, asks_place: bool = False, asks_item: bool = False,
             order: bool = False) -> Template:  # fmt: skip
    return Template(STORAGE, purpose, wordings, asks_place=asks_place, asks_item=asks_item, order=order)


_BIRTHDAYS = (
    _birthday("记录", "{d}是我的生日", "我的生日是{d}", "我{d}过生日", "{c}我过生日", "{c}是我生日", "我生日{d}",
              "我是{d}出生的", "{d}我生日", "我{d}生日", "{c}是我的生日", "我生日是{d}", "{c}我生日"),
    _birthday("记录", "{p}的生日是{d}", "{p}{d}过生日", "{p}生日{d}", "{d}是{p}的生日", "{c}是{p}生日",
              "{p}生日是{d}", "{c}{p}过生日", "{p}的生日在{d}", "每年的{d}是{p}的生日", "{p}每年{d}过生日",
              "{p}是{d}出生的", "{d}{p}生日", "{p}{c}生日", "{p}{c}过生日"),
    _birthday("记录", "记一下{p}的生日是{d}", "记录{p}生日{d}", "每年的{d}{p}生日记录一下", "记住{p}{d}过生日",
              "把{p}的生日记成{d}", "记录一下{d}是{p}的生日", "{d}{p}生日记一下", "记录{d}{p}过生日",
              order=True),
    _birthday("提醒", "{r}提醒我{c}{p}过生日", "{r}提醒我{d}{p}生日", "提醒我{d}{p}过生日", "{c}{p}生日提醒我",
              "{d}是{p}的生日提醒我", "到{d}提醒我{p}生日", "{r}提醒我{d}是{p}的生日", "提醒我{c}是{p}的生日",
              order=True),
    _birthday("提醒", "{r}提醒我{c}我过生日", "提醒我{d}过生日", "{c}提醒我过生日", "{d}提醒我过生日",
              "{r}提醒我{d}是我的生日", order=True),
    _birthday("提醒", "提醒我{p}的生日", "{p}过生日的时候提醒我", "{p}生日提醒我", "{p}生日前提醒我",
              "提醒我给{p}过生日", order=True),
    _birthday("查询", "{p}生日", "{p}的生日", "{p}哪天生日", "{p}什么时候过生日", "{p}的生日是哪天", "{p}几号生日",
              "{p}生日是什么时候", "{p}啥时候过生日", "你知道{p}的生日吗", "{p}的生日是几月几号", "{p}过生日是哪天",
              "还有几天到{p}的生日", "{p}的生日还有多久"),
    _birthday("查询", "查一下{p}的生日", "查询{p}生日", "看看{p}哪天过生日", "告诉我{p}的生日", "查{p}什么时候生日",
              order=True),
    _birthday("查询", "我的生日", "我生日是哪天", "我什么时候过生日", "查一下我的生日", "我的生日是几号",
              "我哪天生日", "还有几天到我生日", "我啥时候过生日"),
    _birthday("查询", "{c}谁过生日", "谁{d}过生日", "{c}是谁的生日", "{d}是谁的生日", "{d}谁生日", "{c}谁生日",
              "{c}有谁过生日", person=SOMEBODY),
    _birthday("庆祝", "祝{p}生日快乐", "庆祝{p}的生日", "给{p}庆祝生日", "给{p}过生日", "给{p}庆生",
              "{p}生日快乐", time="无", time_type="无", order=True),
    _birthday("庆祝", "{c}给{p}过生日", "{d}给{p}庆祝生日", "{c}庆祝{p}的生日", "{c}给{p}庆生"),
    _birthday("庆祝", "祝我生日快乐", "给我庆祝生日", "庆祝我的生日", "我要庆祝生日", time="无", time_type="无"),
    _birthday("设置", "设置{p}的生日提醒", "设置{p}的生日", "给{p}的生日设个提醒", "设个{p}的生日提醒",
              time="无", time_type="无", order=True),
    _birthday("设置", "设置{p}的生日为{d}", "把{p}的生日设为{d}", "{p}的生日设置成{d}", "把{p}生日设置为{d}",
              order=True),
    _birthday("删除", "删除{p}的生日", "删掉{p}的生日", "把{p}的生日删了", "取消{p}的生日记录", "{p}的生日不要了",
              "把{p}生日删掉", time="无", time_type="无", order=True),
    _birthday("删除", "删除我的生日", "把我的生日删了", "删掉我的生日记录", time="无", time_type="无"),
    _birthday("修改", "把{p}的生日改成{d}", "{p}的生日改为{d}", "修改{p}的生日为{d}", "{p}生日记错了，是{d}",
              "{p}的生日不对，应该是{d}", "更正{p}的生日，是{d}", "{p}生日改到{d}", order=True),
    _birthday("修改", "把我的生日改成{d}", "我的生日改为{d}", "我生日记错了，应该是{d}", "修改我的生日为{d}"),
)  # fmt: skip

_ANNIVERSARIES = (
    _anniversary("记录", "{d}是我的{e}", "{e}是{d}", "我的{e}是{d}", "{c}是{e}", "{d}是我们的{e}", "我们的{e}是{d}",
                 "{c}是我们的{e}", "{e}{d}", "我和老婆的{e}是{d}", "每年{d}是我们的{e}", "{d}{e}"),
    _anniversary("记录", "记一下{e}是{d}", "记录{e}{d}", "把{d}记为{e}", "{d}{e}记录一下", "记住{d}是{e}",
                 order=True),
    _anniversary("查询", "{e}", "{e}是哪天", "我的{e}是什么时候", "我们的{e}是几号", "查一下{e}", "{e}是啥时候",
                 "还有几天到{e}", "我们的{e}", "{e}还有多久", "{e}是几月几号", "我的{e}"),
    _anniversary("提醒", "{r}提醒我{d}是{e}", "提醒我{d}{e}", "{d}提醒我{e}", "提醒我{c}是{e}", "{c}{e}提醒我",
                 order=True),
    _anniversary("提醒", "提醒我{e}", "{e}提醒我", "{e}前提醒我", "到了{e}提醒我", order=True),
    _anniversary("庆祝", "庆祝{e}", "我要庆祝{e}", "庆祝我们的{e}", "想庆祝一下{e}", time="无"),
    _anniversary("庆祝", "{c}庆祝{e}", "{c}我们要庆祝{e}", "{d}庆祝{e}"),
    _anniversary("设置", "设置{e}为{d}", "把{e}设为{d}", "把{e}设置成{d}", order=True),
    _anniversary("设置", "设置{e}", "设置{e}提醒", "设个{e}", "新建一个{e}", time="无", order=True),
    _anniversary("删除", "删除{e}", "把{e}删了", "删掉{e}", "取消{e}", "{e}不要了", time="无", order=True),
    _anniversary("修改", "把{e}改成{d}", "{e}改为{d}", "修改{e}为{d}", "{e}记错了，是{d}", "{e}应该是{d}",
                 order=True),
)  # fmt: skip

_PERIODS = (
    _period("记录", "今天", PERIOD_START, "大姨妈来了", "来例假了", "月经来了", "我来大姨妈了", "例假来了",
            "来月经了",
            "大姨妈开始了", "生理期开始了", "我的月经来了", "姨妈来了", "生理期来了", "例假开始了"),
    _period("记录", "今天", PERIOD_START, "{n}来大姨妈了", "大姨妈{n}来的", "{n}来的例假", "例假{n}开始的",
            "{n}是我的生理期", "我{n}来月经了", "月经{n}来的", "{n}大姨妈来了", "{n}开始来例假", "月经开始时间是{n}",
            "{n}生理期开始", "我{n}来的大姨妈", "{n}例假来了", "记录{n}来月经"),
    _period("记录", "今天", PERIOD_END, "大姨妈结束了", "例假结束了", "月经走了", "大姨妈走了", "生理期结束了",
            "月经结束了", "我的例假完了", "姨妈走了", "月经干净了", "例假没了", "我大姨妈结束了"),
    _period("记录", "今天", PERIOD_END, "例假{n}结束了", "大姨妈{n}走的", "{n}月经结束了", "{n}例假结束",
            "月经{n}结束的", "生理期{n}结束了", "{n}大姨妈走了", "月经结束时间是{n}", "我例假{n}没的",
            "{n}生理期结束", "大姨妈{n}结束了", "记录{n}月经结束"),
    _period("查询", "无", "无", "月经数据", "例假记录", "生理期数据", "看看我的月经记录", "月经情况", "大姨妈记录",
            "查一下月经数据", "我的例假数据", "查看生理期记录", "月经记录"),
    _period("查询", "待查询", PERIOD_START, "我大姨妈啥时候来", "例假什么时候来", "上次大姨妈是什么时候",
            "我上次月经是哪天来的", "月经哪天来", "大姨妈几号来的", "上次例假是几号", "我的生理期是哪天",
            "例假啥时候来的", "上个月月经什么时候来的", "大姨妈还有几天来", "月经什么时候开始"),
    _period("查询", "待查询", PERIOD_END, "大姨妈什么时候结束", "例假哪天走", "月经啥时候结束", "生理期几号结束的",
            "上次月经什么时候结束的", "我的例假什么时候结束", "大姨妈哪天走的", "月经还有几天结束"),
    _period("预测", "待查询", PERIOD_START, "预测下次月经", "预测一下大姨妈", "下次例假大概什么时候",
            "算算下次月经时间",
            "下次大姨妈什么时候来", "推算下次生理期", "预测月经时间", "下个月大姨妈大概几号来", "估计下次例假哪天来",
            "预测我下次来例假的时间"),
    _period("提醒", "待查询", PERIOD_START, "来例假前提醒我", "大姨妈快来了提醒我", "提醒我来月经的时间",
            "月经前提醒我", "生理期前提醒我", "例假要来的时候提醒我"),
    _period("设置", "待查询", PERIOD_START, "设置月经提醒", "设置生理期提醒", "设个例假提醒", "设置大姨妈提醒",
            order=True),
    _period("删除", "无", "无", "删除月经记录", "把例假记录删了", "删掉大姨妈的数据", "清空月经数据",
            "删除生理期记录",
            order=True),
    _period("删除", "无", PERIOD_START, "删除{n}的月经记录", "把{n}的例假记录删掉", "删掉{n}大姨妈的记录",
            order=True),
    _period("修改", "无", PERIOD_START, "把月经开始时间改成{n}", "大姨妈改成{n}来的", "例假记错了，是{n}来的",
            "月经时间改为{n}", "修改例假开始时间为{n}", order=True),
    _period("修改", "无", PERIOD_END, "把月经结束时间改成{n}", "大姨妈改成{n}走的", "例假记错了，是{n}结束的",
            "修改例假结束时间为{n}", order=True),
)  # fmt: skip

_STORAGES = (
    _storage("记录物品", "我把{i}放在{l}了", "{i}放在{l}", "我的{i}在{l}", "{i}放{l}了", "{i}在{l}", "把{i}放到{l}了",
             "我把{i}收到{l}了", "{i}我放{l}了", "我{n}把{i}放在{l}了", "{n}把{i}放到{l}了", "{i}存放在{l}",
             "我将{i}放在了{l}", "{i}搁{l}了", "{i}被我放在{l}了", "我把{i}放{l}"),
    _storage("记录物品", "{p}把{i}放在{l}了", "{p}的{i}在{l}", "{p}的{i}放在{l}了", "{p}把{i}放{l}了",
             "{p}{n}把{i}放到{l}了", "{p}把{i}收进{l}了"),
    _storage("记录物品", "记一下{i}放在{l}", "记录{i}在{l}", "记住我的{i}放在{l}", "记录一下{i}放到{l}了",
             order=True),
    _storage("寻找", "{i}在哪", "我的{i}放哪了", "{i}放在哪里了", "我把{i}放哪儿了", "{i}在什么地方", "找一下{i}",
             "找不到{i}了", "{i}去哪了", "我的{i}呢", "看看{i}在哪", "{i}放哪了", "我的{i}在哪里", "{i}在哪儿",
             asks_place=True),
    _storage("寻找", "{p}的{i}在哪", "{p}把{i}放哪了", "{p}的{i}放哪里了", "{p}把{i}放在哪儿了", "找一下{p}的{i}",
             asks_place=True),
    _storage("查询", "{l}有什么", "{l}放了什么", "{l}都有啥", "看看{l}有什么东西", "查一下{l}放了哪些东西",
             "{l}有哪些东西", asks_item=True),
    _storage("拿到物品", "我把{i}从{l}拿走了", "{i}从{l}拿出来了", "从{l}拿了{i}", "我从{l}取走了{i}",
             "我从{l}拿到了{i}",
             "{i}从{l}取出来了", "我{n}从{l}拿了{i}"),
    _storage("拿到物品", "{p}把{i}从{l}拿走了", "{p}从{l}拿了{i}", "{p}从{l}取走了{i}"),
    _storage("拿到物品", "{i}拿到了", "我拿到{i}了", "{i}找到了", "我把{i}拿走了", "{i}我拿走了", "{i}已经拿了"),
    _storage("删除", "删除{i}的存放记录", "把{i}的位置删了", "{i}扔了", "不用记{i}了", "删掉{i}的记录", "删除{i}",
             order=True),
    _storage("修改", "{i}改放到{l}了", "把{i}的位置改成{l}", "{i}换到{l}了", "{i}挪到{l}了", "{i}现在放{l}",
             "修改{i}的位置为{l}", "{i}搬到{l}了"),
)  # fmt: skip

TEMPLATES = (*_BIRTHDAYS, *_ANNIVERSARIES, *_PERIODS, *_STORAGES)
