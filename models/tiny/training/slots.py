"""Values for the slots of the intent templates: people, times, things and places, each with its label.

A value is what a speaker says together with what the record shall hold. Values divide into training and
held-out ones by checksum (``split.held_out``); a ``Pool`` draws from one side only.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from glmserve.models.tiny.training.prompts import held_out

HELD_OUT_ONE_IN = 10
Drawn = TypeVar("Drawn")

SELF, FAMILY, SPOUSE, FRIEND, UNKNOWN, ASKED, NONE = "本人", "亲人", "配偶", "朋友", "未知", "待查询", "无"

# Said by the user -> (label, relation). Words of the prompt's own list replace their colloquial forms.
RELATIVES = {
    "爸爸": ("爸爸", FAMILY), "我爸": ("爸爸", FAMILY), "老爸": ("爸爸", FAMILY), "我爸爸": ("爸爸", FAMILY),
    "父亲": ("爸爸", FAMILY), "妈妈": ("妈妈", FAMILY), "我妈": ("妈妈", FAMILY), "老妈": ("妈妈", FAMILY),
    "我妈妈": ("妈妈", FAMILY), "母亲": ("妈妈", FAMILY), "宝宝": ("宝宝", FAMILY), "我家宝宝": ("宝宝", FAMILY),
    "孩子": ("孩子", FAMILY), "我儿子": ("孩子", FAMILY), "儿子": ("孩子", FAMILY), "女儿": ("孩子", FAMILY),
    "我女儿": ("孩子", FAMILY), "我闺女": ("孩子", FAMILY), "老婆": ("爱人", SPOUSE), "我老婆": ("爱人", SPOUSE),
    "老公": ("爱人", SPOUSE), "我老公": ("爱人", SPOUSE), "媳妇": ("爱人", SPOUSE), "爱人": ("爱人", SPOUSE),
    "我妻子": ("爱人", SPOUSE), "我丈夫": ("爱人", SPOUSE), "女朋友": ("恋人", FRIEND),
    "我女朋友": ("恋人", FRIEND), "男朋友": ("恋人", FRIEND), "我男朋友": ("恋人", FRIEND),
    "我对象": ("恋人", FRIEND), "哥哥": ("哥哥", FAMILY), "我哥": ("哥哥", FAMILY), "大哥": ("哥哥", FAMILY),
    "姐姐": ("姐姐", FAMILY), "我姐": ("姐姐", FAMILY), "弟弟": ("弟弟", FAMILY), "我弟": ("弟弟", FAMILY),
    "妹妹": ("妹妹", FAMILY), "我妹": ("妹妹", FAMILY), "爷爷": ("爷爷", FAMILY), "奶奶": ("奶奶", FAMILY),
    "外公": ("外公", FAMILY), "外婆": ("外婆", FAMILY), "姥姥": ("姥姥", FAMILY), "舅舅": ("舅舅", FAMILY),
    "姑姑": ("姑姑", FAMILY), "叔叔": ("叔叔", FAMILY), "阿姨": ("阿姨", FAMILY), "表哥": ("表哥", FAMILY),
    "表妹": ("表妹", FAMILY), "朋友": ("朋友", FRIEND), "我朋友": ("朋友", FRIEND), "闺蜜": ("朋友", FRIEND),
    "我闺蜜": ("朋友", FRIEND), "同学": ("朋友", FRIEND), "我同事": ("朋友", FRIEND), "我好朋友": ("朋友", FRIEND),
}  # fmt: skip
BEFORE_NAMES = {"我朋友": FRIEND, "我同学": FRIEND, "我同事": FRIEND, "我闺蜜": FRIEND, "我表弟": FAMILY,
                "我妹妹": FAMILY, "我弟弟": FAMILY, "我女儿": FAMILY, "我儿子": FAMILY, "我老婆": SPOUSE,
                "我老公": SPOUSE}  # fmt: skip
SURNAMES = "赵钱孙李周吴郑王冯陈卫蒋沈韩杨朱秦许何吕张孔曹严华金魏陶姜谢邹章苏潘葛范彭鲁马方任袁柳唐薛雷贺罗郝安常于傅顾孟黄萧尹姚邵汪毛戴宋庞熊纪项祝董梁杜阮林徐邱高夏蔡田樊胡霍万管卢丁邓郭叶白"  # noqa: E501
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰红波辉鹏飞宇浩轩梓涵欣怡诗雨晨曦子墨思琪佳俊豪嘉文博雅婷雪梅琳建国志远晓东海燕春花秋月冬青山林森石川云天星辰光亮宁安康乐喜庆福瑞祥龙凤虎彬斌凯旋睿哲昊然一诺可心依若语桐派来小"  # noqa: E501
NICKNAMES = ("小明", "小红", "小芳", "小丽", "小强", "小刘", "老王", "老张", "阿杰", "阿美", "豆豆", "乐乐",
             "妞妞", "果果", "圆圆", "萌萌", "Tom", "Lucy", "Jack", "Amy", "小李", "老陈", "阿强",
             "糖糖")  # fmt: skip

DIGITS = "零一二三四五六七八九"
LUNAR_DAYS = ("初一", "初二", "初三", "初五", "初六", "初八", "初九", "初十", "十五", "十六", "十八", "二十", "廿三")
NEAR_TIMES = ("今天", "昨天", "前天", "上周五", "上周日", "上个月", "周一", "周三", "今天早上", "昨天晚上",
              "上个星期六", "这周二", "大前天", "刚刚", "上周末", "前几天", "上周三", "今天下午")  # fmt: skip
COMING_TIMES = ("今天", "明天", "后天", "大后天", "下周一", "下周三", "下周六", "这周日", "周五", "下个月", "月底",
                "下个月五号", "下个月十号", "这个月十八号", "下星期天", "下周末", "下个月1号", "本周六")  # fmt: skip

ITEMS = (
    "衣服", "外套", "毛衣", "羽绒服", "裙子", "裤子", "衬衫", "帽子", "围巾", "手套", "袜子", "鞋子",
    "运动鞋", "高跟鞋", "拖鞋", "靴子", "书", "字典", "小说", "课本", "笔记本", "杂志", "相册", "日记本",
    "手机", "电脑", "平板", "充电器", "充电宝", "耳机", "数据线", "相机", "键盘", "鼠标", "U盘", "遥控器",
    "手表", "电池", "护照", "身份证", "户口本", "银行卡", "驾照", "钥匙", "车钥匙", "钱包", "发票", "合同",
    "房产证", "毕业证", "结婚证", "雨伞", "剪刀", "胶带", "螺丝刀", "锤子", "药", "感冒药", "体温计",
    "创可贴", "口罩", "眼镜", "太阳镜", "戒指", "项链", "耳环", "香水", "口红", "面膜", "玩具", "积木",
    "拼图", "吉他", "篮球", "羽毛球拍", "帐篷", "行李箱", "背包", "水杯", "保温杯", "茶叶", "咖啡", "零食",
    "奶粉", "尿不湿", "被子", "床单", "枕头", "毛巾", "吹风机", "剃须刀", "电风扇", "工具箱", "打火机",
    "蜡烛", "红包", "邮票", "存折", "病历", "冬天的衣服", "夏天的裙子", "备用钥匙", "孩子的课本", "旧手机",
    "新买的鞋", "红色的外套", "黑色的包", "登山鞋", "游泳衣",
)  # fmt: skip
PLACES = (
    "衣柜", "书柜", "鞋柜", "电子产品柜", "抽屉", "床头柜", "书桌", "茶几", "沙发", "冰箱", "阳台", "厨房",
    "卧室", "客厅", "书房", "储物间", "储物柜", "地下室", "车库", "后备箱", "办公室", "柜子", "箱子",
    "行李箱", "保险柜", "鞋架", "书架", "电视柜", "餐桌", "橱柜", "洗手间", "玄关", "门口", "床底下",
    "背包", "公文包", "梳妆台", "窗台", "工具箱", "药箱", "收纳盒", "纸箱", "卧室的衣柜", "客厅的抽屉",
    "书房的柜子", "厨房的橱柜", "左边的抽屉", "第二层抽屉", "最上面的柜子", "妈妈家", "公司", "车里",
    "杂物间", "阁楼", "洗衣房", "床头", "飘窗", "吊柜", "壁橱", "文件柜",
)  # fmt: skip
EVENTS = ("结婚纪念日", "恋爱纪念日", "相识纪念日", "订婚纪念日", "毕业纪念日", "入职纪念日", "领证纪念日",
          "在一起的纪念日", "纪念日", "创业纪念日", "搬家纪念日", "相恋纪念日")  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A person as said, and as recorded."""

    said: str
    label: str
    relation: str


@dataclass(frozen=True)
class Said:
    """A time, thing or place as said, and as recorded."""

    said: str
    label: str


class Pool:
    """Draws slot values from the training side, or the held-out side, of every list."""

    def __init__(self, rng: random.Random, letters: str, *, unseen: bool) -> None:
        self._rng = rng
        self._letters = letters
        self._unseen = unseen

    def person(self) -> Person:
        """Draw a relative, a name, or a name with the relation before it."""
        roll = self._rng.random()
        if roll < 0.45 and not self._unseen:
            said = self._rng.choice(tuple(RELATIVES))
            return Person(said, *RELATIVES[said])
        name = self._mine(self._name)
        if roll < 0.6:
            title = self._rng.choice(tuple(BEFORE_NAMES))
            return Person(title + name, name, BEFORE_NAMES[title])
        return Person(name, name, UNKNOWN)

    def date(self) -> Said:
        """Draw a day of the year in one of the ways to say it, sometimes with a year or of the lunar calendar."""
        month, day = self._mine(self._month_day)
        roll = self._rng.random()
        if roll < 0.15:
            lunar = self._rng.choice(("农历", "阴历")) + _chinese(month) + "月" + self._rng.choice(LUNAR_DAYS)
            return Said(lunar, lunar)
        year = f"{self._rng.randrange(1950, 2025)}年" if roll < 0.25 else ""
        digits = self._rng.random() < 0.5
        said = f"{year}{month}月{day}" if digits else f"{year}{_chinese(month)}月{_chinese(day)}"
        unit = self._rng.choice(("日", "号", "号", ""))
        return Said(said + unit, said + (unit or "日"))

    def near(self) -> Said:
        """Draw a time just past: a word for it, or a date."""
        return self._word(NEAR_TIMES) if self._rng.random() < 0.7 else self.date()

    def coming(self) -> Said:
        """Draw a time just ahead: a word for it, or a date."""
        return self._word(COMING_TIMES) if self._rng.random() < 0.7 else self.date()

    def item(self) -> Said:
        """Draw a thing; some are made-up words, so that copying is learnt and not only a list."""
        return self._listed(ITEMS)

    def place(self) -> Said:
        """Draw a place, said with or without the 里 that the record leaves out."""
        place = self._listed(PLACES)
        ending = "" if place.label[-1] in "里下" else self._rng.choice(("", "里", "里", "里面", "上"))
        return Said(place.said + ending, place.label)

    def event(self) -> Said:
        """Draw a kind of anniversary."""
        return self._word(EVENTS)

    def _listed(self, words: tuple[str, ...]) -> Said:
        if not self._unseen and self._rng.random() < 0.25:
            word = "".join(self._rng.choices(self._letters, k=self._rng.randint(2, 4)))
            return Said(word, word)
        word = self._mine(lambda: self._rng.choice(words))
        return Said(word, word)

    def _word(self, words: tuple[str, ...]) -> Said:
        word = self._rng.choice(words)
        return Said(word, word)

    def _mine(self, draw: Callable[[], Drawn]) -> Drawn:
        """Draw until the value lies on this pool's side of the split."""
        while True:
            value = draw()
            if held_out(str(value), HELD_OUT_ONE_IN) == self._unseen:
                return value

    def _name(self) -> str:
        if self._rng.random() < 0.15:
            return self._rng.choice(NICKNAMES)
        given = GIVEN if self._rng.random() < 0.7 else self._letters
        return self._rng.choice(SURNAMES) + "".join(self._rng.choices(given, k=self._rng.choice((1, 2, 2))))

    def _month_day(self) -> tuple[int, int]:
        return self._rng.randint(1, 12), self._rng.randint(1, 30)


def _chinese(number: int) -> str:
    """Write 1..99 in Chinese numerals."""
    tens, ones = divmod(number, 10)
    head = "" if tens == 0 else ("" if tens == 1 else DIGITS[tens]) + "十"
    return head + (DIGITS[ones] if ones else "")
