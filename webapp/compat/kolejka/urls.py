"""The table of kolejka's addresses, below the prefix."""

from __future__ import annotations

from django.urls import path

from webapp.compat.kolejka import files, people, tasks

app_name = "kolejka"
urlpatterns = [
    path("", people.index, name="index"),
    path("login/", people.login, name="login"),
    path("logout/", people.logout, name="logout"),
    path("settings/", people.settings, name="settings"),
    path("blob/blob/<str:key>/", files.blob, name="blob"),
    path("blob/reference/", files.reference, name="references"),
    path("blob/reference/<str:key>/", files.reference, name="reference"),
    path("task/task/", tasks.task, name="tasks"),
    path("task/task/<str:key>/", tasks.task, name="task"),
    path("task/result/", tasks.result, name="results"),
    path("task/result/<str:key>/", tasks.result, name="result"),
    path("queue/dequeue/", tasks.dequeue, name="dequeue"),
    path("queue/stats/", tasks.stats, name="stats"),
]
